//! The body of a write: read within bounds, and checked.

use std::future::poll_fn;
use std::pin::pin;
use std::time::Duration;

use http::StatusCode;
use http::header::{self, HeaderMap};
use http_body::Body as HttpBody;
use serde_json::{Map, Value};
use tokio::runtime::Handle as Runtime;
use tokio::time::timeout;

use super::respond::Refusal;
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
pub(super) async fn read<B>(headers: &HeaderMap, body: B) -> Result<Vec<u8>, Refusal>
where
    B: HttpBody,
    B::Data: bytes::Buf,
{
    let too_large = || {
        let text = format!("the body is larger than {MOST_BYTES} bytes");
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, text)
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
        Ok(Err(())) => Err(Refusal::new(StatusCode::BAD_REQUEST, "the body ended with an error")),
        Err(_) => {
            let text = format!("the body did not arrive within {PATIENCE:?}");
            Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, text))
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

fn object(body: &[u8]) -> Result<Map<String, Value>, Refusal> {
    serde_json::from_slice(body)
        .map_err(|error| Refusal::wrong(format!("expected a JSON object: {error}")))
}

/// Checks the body of a write that has no settings: `{}`.
pub(super) fn nothing(body: &[u8]) -> Result<(), Refusal> {
    match object(body)?.keys().next() {
        Some(name) => Err(Refusal::wrong(format!("`{}`: unknown; expected {{}}", shown(name)))),
        None => Ok(()),
    }
}

/// Checks the body of a reset of all circuits: `{"all": true}`. A client or a proxy that normalises
/// `/api/circuits/../reset` must not reset them.
pub(super) fn all(body: &[u8]) -> Result<(), Refusal> {
    let object = object(body)?;
    if object.len() == 1 && object.get("all") == Some(&Value::Bool(true)) {
        return Ok(());
    }
    Err(Refusal::wrong("this path resets all circuits; its body must be {\"all\": true}"))
}

/// Reads an override. The error names each problem.
pub(super) fn r#override(body: &[u8]) -> Result<Override, Refusal> {
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
        _ => Err(Refusal::wrong(problems.join("; "))),
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
