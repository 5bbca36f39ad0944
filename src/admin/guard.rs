//! What a request must be before it may change anything.

use http::StatusCode;
use http::header::{self, HeaderMap, HeaderName};
use http::request::Parts;

use super::respond::Refusal;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Refuses a write that a page of another origin could have caused, and one that is no JSON, which
/// every page could send as a form.
pub(super) fn check(parts: &Parts) -> Result<(), Refusal> {
    check_page(parts)?;
    if !is_json(&parts.headers) {
        let text = "the body must be JSON, with the content type application/json";
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, text));
    }
    Ok(())
}

/// Refuses what a browser says that a page of another origin has caused. For events too: such a page
/// could not read them, but would take all seats.
pub(super) fn check_page(parts: &Parts) -> Result<(), Refusal> {
    // Browsers send it only to https and to localhost. What cannot be read is none of those.
    let own = |site: &str| ["same-origin", "none"].contains(&site);
    let mut sites = parts.headers.get_all(SEC_FETCH_SITE).iter();
    if !sites.all(|value| value.to_str().is_ok_and(own)) {
        return Err(Refusal::forbidden("the request comes from a page of another site"));
    }
    let mut origins = parts.headers.get_all(header::ORIGIN).iter();
    if let Some(origin) = origins.next() {
        let own = origin.to_str().is_ok_and(|origin| is_own(origin, parts));
        if !own || origins.next().is_some() {
            return Err(Refusal::forbidden(
                "the request comes from a page of another origin; if a proxy stands between, have \
                 it pass the host on",
            ));
        }
    }
    Ok(())
}

/// Returns whether an origin is that of the request, apart from the scheme, which TLS in front of
/// this service hides.
fn is_own(origin: &str, parts: &Parts) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else { return false };
    let default = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => return false,
    };
    let plain = |host: &str| {
        let host = host.to_ascii_lowercase();
        host.strip_suffix(default).map(str::to_owned).unwrap_or(host)
    };
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().ok(),
        // HTTP/2 has it in the URI.
        (None, None) => parts.uri.authority().map(http::uri::Authority::as_str),
        _ => None,
    };
    host.is_some_and(|host| !host.is_empty() && plain(host) == plain(authority))
}

fn is_json(headers: &HeaderMap) -> bool {
    let mut kinds = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(kind), None) = (kinds.next(), kinds.next()) else { return false };
    let essence = |kind: &str| {
        let essence = kind.split(';').next().unwrap_or_default();
        essence.trim().eq_ignore_ascii_case("application/json")
    };
    kind.to_str().is_ok_and(essence)
}
