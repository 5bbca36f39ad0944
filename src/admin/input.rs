//! The body of a write: read within bounds, and checked.

use std::future::poll_fn;
use std::pin::pin;
use std::time::Duration;

use http::header::{self, HeaderMap};
use http::{Response, StatusCode};
use http_body::Body as HttpBody;
use serde_json::{Map, Value};
use tokio::runtime::Handle as Runtime;
use tokio::time::timeout;

use super::body::Body;
use super::respond::refuse;
use crate::overrides::{Override, OverrideState};

/// The largest body.
const MOST_BYTES: usize = 16 << 10;

/// The longest time that a client may take to send it.
const PATIENCE: Duration = Duration::from_secs(10);

/// The most bytes of a reason. An override keeps no more.
const LONGEST_REASON: usize = 512;

/// The longest time of an override: a year of days, and one.
const LONGEST: u64 = 366 * 24 * 60 * 60 * 1_000;

/// The most characters that an answer repeats of a name or a value.
const SHOWN: usize = 64;

/// Reads a body. One that is too large is not read to its end.
pub(super) async fn read<B>(headers: &HeaderMap, body: B) -> Result<Vec<u8>, Response<Body>>
where
    B: HttpBody,
    B::Data: bytes::Buf,
{
    let too_large = || {
        let text = format!("the body is larger than {MOST_BYTES} bytes");
        refuse(StatusCode::PAYLOAD_TOO_LARGE, &text)
    };
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    let announced = announced.and_then(|length| length.parse::<u64>().ok()).unwrap_or_default();
    if announced > MOST_BYTES as u64 {
        return Err(too_large());
    }
    let all = collect(body);
    let read = match Runtime::try_current() {
        Ok(_) => timeout(PATIENCE, all).await,
        Err(_) => Ok(all.await),
    };
    match read {
        Ok(Ok(Some(bytes))) => Ok(bytes),
        Ok(Ok(None)) => Err(too_large()),
        Ok(Err(())) => Err(refuse(StatusCode::BAD_REQUEST, "the body ended with an error")),
        Err(_) => {
            let text = format!("the body did not arrive within {PATIENCE:?}");
            Err(refuse(StatusCode::REQUEST_TIMEOUT, &text))
        }
    }
}

/// Returns the bytes of a body, or `None` if there are too many.
async fn collect<B>(body: B) -> Result<Option<Vec<u8>>, ()>
where
    B: HttpBody,
{
    use bytes::Buf;

    let mut body = pin!(body);
    let mut bytes = Vec::new();
    while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        let Ok(mut data) = frame.map_err(|_| ())?.into_data() else { continue };
        if data.remaining() > MOST_BYTES - bytes.len() {
            return Ok(None);
        }
        while data.has_remaining() {
            let chunk = data.chunk();
            let length = chunk.len();
            bytes.extend_from_slice(chunk);
            data.advance(length);
        }
    }
    Ok(Some(bytes))
}

/// The refusal of a body that says something wrong.
pub(super) fn wrong(text: &str) -> Response<Body> {
    refuse(StatusCode::BAD_REQUEST, text)
}

fn object(body: &[u8]) -> Result<Map<String, Value>, Response<Body>> {
    serde_json::from_slice(body).map_err(|error| wrong(&format!("expected a JSON object: {error}")))
}

/// Checks the body of a write that has no settings: `{}`.
pub(super) fn nothing(body: &[u8]) -> Result<(), Response<Body>> {
    match object(body)?.keys().next() {
        Some(name) => Err(wrong(&format!("`{}`: unknown; expected {{}}", shown(name)))),
        None => Ok(()),
    }
}

/// Reads an override. The error names each problem.
pub(super) fn r#override(body: &[u8]) -> Result<Override, Response<Body>> {
    let object = object(body)?;
    let mut problems = Vec::new();
    for name in object.keys() {
        if !["state", "reason", "lasting_ms"].contains(&name.as_str()) {
            let name = shown(name);
            problems.push(format!("`{name}`: unknown; expected state, reason, lasting_ms"));
        }
    }
    let state = object.get("state").and_then(Value::as_str).and_then(OverrideState::from_name);
    if state.is_none() {
        let names = "forced_open, forced_closed, disabled or metrics_only";
        problems.push(format!("`state` is {}, expected {names}", value(object.get("state"))));
    }
    let reason = object.get("reason").and_then(Value::as_str);
    let reason = reason.filter(|r| !r.trim().is_empty() && r.len() <= LONGEST_REASON);
    if reason.is_none() {
        let expected = format!("a text of 1 to {LONGEST_REASON} bytes");
        problems.push(format!("`reason` is {}, expected {expected}", value(object.get("reason"))));
    }
    let lasting = object.get("lasting_ms").filter(|lasting| !lasting.is_null());
    let time = lasting.and_then(Value::as_u64).filter(|time| (1..=LONGEST).contains(time));
    if lasting.is_some() && time.is_none() {
        let expected = format!("whole milliseconds from 1 to {LONGEST}");
        problems.push(format!("`lasting_ms` is {}, expected {expected}", value(lasting)));
    }
    match (state, reason) {
        (Some(state), Some(reason)) if problems.is_empty() => {
            let set = Override::new(state, reason);
            Ok(time.map_or(set.clone(), |time| set.lasting(Duration::from_millis(time))))
        }
        _ => Err(wrong(&problems.join("; "))),
    }
}

fn value(value: Option<&Value>) -> String {
    value.map_or("missing".to_owned(), |value| shown(&value.to_string()))
}

/// What a client has sent, short enough to be repeated.
fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
