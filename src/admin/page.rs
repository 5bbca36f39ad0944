//! The page, and what it may do.

use std::sync::OnceLock;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Response, StatusCode};
use sha2::{Digest, Sha256};

use super::body::Body;
use super::respond::whole;

const PAGE: &str = include_str!("page.html");

/// Returns the page.
pub(super) fn page() -> Response<Body> {
    let kind = HeaderValue::from_static("text/html; charset=utf-8");
    let mut response = whole(StatusCode::OK, kind, Bytes::from_static(PAGE.as_bytes()));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, policy().clone());
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    response
}

/// The page may run its own script and talk to its own origin, and nothing else. The hashes are
/// those of this very page, so an element that came into it in another way would not run.
fn policy() -> &'static HeaderValue {
    static POLICY: OnceLock<HeaderValue> = OnceLock::new();
    POLICY.get_or_init(|| {
        let style = hashes(PAGE, "style");
        let script = hashes(PAGE, "script");
        // Only if the page has pictures.
        let images = if PAGE.contains("data:image/") { "; img-src data:" } else { "" };
        let policy = format!(
            "default-src 'none'; style-src {style}; script-src {script}; connect-src 'self'{images}; \
             frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
        );
        // Base64 and literals are valid; without a policy the page would be less safe, not wrong.
        HeaderValue::try_from(policy)
            .unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'"))
    })
}

/// Returns the hashes of all elements with this name.
fn hashes(page: &str, element: &str) -> String {
    let (open, close) = (format!("<{element}>"), format!("</{element}>"));
    let inside = page.split(&open).skip(1).filter_map(|rest| rest.split(&close).next());
    let hashes: Vec<_> = inside.map(|text| format!("'sha256-{}'", base64(&sha256(text)))).collect();
    if hashes.is_empty() { "'none'".to_owned() } else { hashes.join(" ") }
}

fn sha256(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = bytes.chunks(3).flat_map(|chunk| {
        let byte = |n: usize| u32::from(chunk.get(n).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        (0..4).map(move |n| {
            if n > chunk.len() {
                '='
            } else {
                char::from(DIGITS[(bits >> (18 - 6 * n) & 63) as usize])
            }
        })
    });
    digits.collect()
}

#[cfg(all(test, not(breaker_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_that_of_the_standard() {
        // The example of CSP Level 3, 2.3.1, for this text.
        let hash = base64(&sha256("alert('Hello, world.');"));
        assert_eq!(hash, "qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng=");
        assert_eq!(base64(b"f"), "Zg==");
        assert_eq!(base64(b"fo"), "Zm8=");
        assert_eq!(base64(b"foo"), "Zm9v");
    }

    #[test]
    fn the_page_has_one_style_and_one_script_and_needs_nothing_from_elsewhere() {
        for element in ["style", "script"] {
            assert_eq!(PAGE.matches(&format!("<{element}")).count(), 1, "{element}");
            assert!(PAGE.contains(&format!("<{element}>")), "{element} without attributes");
        }
        // The policy forbids them all.
        for forbidden in
            [" style=\"", " onclick=", "javascript:", "<link rel=\"stylesheet", "src=\"http"]
        {
            assert!(!PAGE.contains(forbidden), "{forbidden}");
        }
        let policy = policy().to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
        assert!(!policy.contains("unsafe"));
    }
}
