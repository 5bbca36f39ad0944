//! What went wrong, in words for people, without secrets.

use fred::error::{Error, ErrorKind};

use crate::backend::BackendError;

/// The oldest version with everything that the scripts need.
const OLDEST: (u64, u64) = (6, 2);

/// Returns why a first connection failed. If one side speaks TLS and the other does not, they wait
/// for each other in silence, or one hangs up.
pub(super) fn first_connection(error: &Error, tls: bool) -> BackendError {
    let unexpected = match error.kind() {
        ErrorKind::Timeout => tls,
        ErrorKind::IO => !tls && error.details().contains("ConnectionReset"),
        _ => false,
    };
    let fault = fault(error);
    if !unexpected {
        return fault;
    }
    let expected = if tls { "speaks" } else { "does not speak" };
    BackendError::unavailable(format!("{fault}; check that the server {expected} TLS"))
}

/// Distinguishes a server that does not answer from one that refuses. The client's kinds are
/// coarse, and a server before 7.0 wraps what a command answered to a script; so the word in it
/// decides.
pub(super) fn fault(error: &Error) -> BackendError {
    // A server that does not know `AUTH`, or a proxy, repeats the arguments that it was sent.
    let said = error.details().split(", with args").next().unwrap_or_default();
    let has = |word: &str| said.contains(word);
    if let Some(fault) = denied(said) {
        return fault;
    }
    // What a script says that has found no list of numbers where one should be.
    if has("attempt to ") || has("bad argument") {
        return BackendError::refused(
            "the record of the circuit is corrupt: delete the circuit's keys",
        );
    }
    if has("WRONGTYPE") {
        return BackendError::refused(
            "a key of the circuit holds data that is not ours: delete the key, or choose another \
             key prefix",
        );
    }
    if has("unknown command") && (has("HELLO") || has("hello")) {
        return too_old("older than 6.0");
    }
    // What a server says of itself: after READONLY it is a replica, after OOM it is full.
    let states = [
        "OOM",
        "READONLY",
        "LOADING",
        "CLUSTERDOWN",
        "MASTERDOWN",
        "MISCONF",
        "NOREPLICAS",
        "TRYAGAIN",
        "BUSY",
    ];
    if let Some(state) = states.into_iter().find(|state| has(state)) {
        return BackendError::unavailable(format!("redis cannot do this now: {state}"));
    }
    match error.kind() {
        ErrorKind::Timeout => silent(),
        ErrorKind::IO | ErrorKind::Canceled | ErrorKind::Routing | ErrorKind::Backpressure => {
            BackendError::unavailable(format!("redis cannot be reached: {}", plain(said)))
        }
        ErrorKind::Unknown | ErrorKind::InvalidArgument | ErrorKind::InvalidCommand => {
            BackendError::refused(format!("redis refuses: {said}"))
        }
        kind => {
            let kind = kind.to_str();
            BackendError::unavailable(format!("redis cannot be reached: {kind}: {}", plain(said)))
        }
    }
}

/// Returns what an error of one circuit in a script means.
pub(super) fn in_script(said: &str) -> BackendError {
    fault(&Error::new(ErrorKind::Unknown, said.to_owned()))
}

/// Returns why a script could not publish.
pub(super) fn unpublished(said: &str) -> BackendError {
    match denied(said) {
        Some(_) => BackendError::refused(
            "redis denies PUBLISH: grant what docs/redis.md lists under \"Permissions\"",
        ),
        None => in_script(said),
    }
}

/// Returns the error of a server that does not answer.
pub(super) fn silent() -> BackendError {
    BackendError::unavailable("redis did not answer in time")
}

/// Returns what an error of the system says. The client shows such an error as it is debugged:
/// `Os { code: 111, kind: ConnectionRefused, message: "Connection refused" }`.
fn plain(said: &str) -> String {
    if let Some((_, why)) = said.split_once("InvalidCertificate(") {
        let why = why.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
        let why = words(why.trim_end_matches("Context"));
        return format!("the server's certificate is not accepted: {why}");
    }
    let within = |start: &str, end: &[char]| {
        let rest = said.split_once(start)?.1;
        Some(rest.split(end).next().unwrap_or(rest))
    };
    let text = within("message: \"", &['"']).or_else(|| within("error: \"", &['"']));
    let kind = || within("kind: ", &[',', ' ', '}']).or_else(|| within("Kind(", &[')']));
    let Some(text) = text.map(str::to_owned).or_else(|| kind().map(words)) else {
        return lower(said.trim_end_matches('.'));
    };
    lower(&text)
}

fn lower(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().into_iter().flat_map(char::to_lowercase);
    first.chain(letters).collect()
}

/// `ConnectionRefused` as words.
fn words(name: &str) -> String {
    let mut words = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.extend(letter.to_lowercase());
    }
    words
}

/// Returns whether there was no answer, or none that can be understood. A server that reports an
/// error of its own is there, and the connection to it works.
pub(super) fn unanswered(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Timeout
            | ErrorKind::IO
            | ErrorKind::Canceled
            | ErrorKind::Routing
            | ErrorKind::Backpressure
            | ErrorKind::Protocol
    )
}

fn denied(said: &str) -> Option<BackendError> {
    let has = |word: &str| said.contains(word);
    if has("WRONGPASS") || has("invalid password") {
        return Some(BackendError::unavailable(
            "redis does not accept the user name or the password",
        ));
    }
    if has("NOAUTH") {
        return Some(BackendError::unavailable("redis asks for a password, and none is set"));
    }
    // Of servers that run scripts; before 7.0, and since.
    let no_permission = ["NOPERM", "ACL failure", "user executing the script can't"];
    no_permission.into_iter().any(has).then(|| {
        BackendError::refused(
            "redis denies a permission: grant what docs/redis.md lists under \"Permissions\"",
        )
    })
}

pub(super) fn too_old(version: &str) -> BackendError {
    let (major, minor) = OLDEST;
    BackendError::refused(format!("redis {major}.{minor} or later is needed, this is {version}"))
}

/// Checks that a server of this version can do what the scripts need. A version that cannot be read
/// passes.
pub(super) fn check_version(version: &str) -> Result<(), BackendError> {
    let mut parts = version.split('.').map(str::parse);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) if (major, minor) < OLDEST => Err(too_old(version)),
        _ => Ok(()),
    }
}

/// Returns what is wrong with how a server evicts, by its `INFO memory`. A server without a limit
/// never evicts.
pub(super) fn eviction(info: &str) -> Option<String> {
    let of = |name| info.lines().find_map(|line| line.trim().strip_prefix(name));
    let policy = of("maxmemory_policy:")?;
    (of("maxmemory:")? != "0" && policy.starts_with("allkeys-")).then(|| {
        format!(
            "maxmemory-policy is {policy}: a full server may evict overrides; use noeviction or \
             volatile-*"
        )
    })
}

/// Checks what the tried commands answered: one line each, the command and the answer.
pub(super) fn check_permissions(failed: &[String]) -> Result<(), BackendError> {
    let (mut missing, mut other) = (Vec::new(), None);
    for line in failed {
        let (command, said) = line.split_once('\t').unwrap_or((line, ""));
        if denied(said).is_none() {
            // Perhaps only because another one was denied before.
            other = other.or_else(|| Some(in_script(said)));
        } else if !missing.contains(&command) {
            missing.push(command);
        }
    }
    if missing.is_empty() {
        return other.map_or(Ok(()), Err);
    }
    Err(BackendError::refused(format!(
        "redis denies {} on our keys or channels: grant what docs/redis.md lists under \
         \"Permissions\"",
        missing.join(", ")
    )))
}

#[cfg(all(test, not(breaker_loom)))]
mod tests {
    use super::*;

    #[test]
    fn only_a_server_that_is_too_old_is_refused() {
        for old in ["5.0.14", "6.0.9", "6.1.240"] {
            assert!(check_version(old).unwrap_err().to_string().contains(old));
        }
        for good in ["6.2.0", "7.0.15", "10.0.1", "255.255.255", "", "who knows"] {
            assert_eq!(check_version(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn errors_of_the_system_are_shown_in_words() {
        for (said, shown) in [
            (
                r#"Os { code: 111, kind: ConnectionRefused, message: "Connection refused" }"#,
                "connection refused",
            ),
            (r#"Custom { kind: UnexpectedEof, error: "tls handshake eof" }"#, "tls handshake eof"),
            ("Kind(BrokenPipe)", "broken pipe"),
            (
                "Custom { kind: InvalidData, error: InvalidCertificate(UnknownIssuer) }",
                "the server's certificate is not accepted: unknown issuer",
            ),
            (
                "Custom { kind: InvalidData, error: InvalidCertificate(NotValidForNameContext { \
                 expected: DnsName(\"a\"), presented: [] }) }",
                "the server's certificate is not accepted: not valid for name",
            ),
            ("Custom { kind: TimedOut, error: Elapsed(()) }", "timed out"),
            ("Unresponsive connection.", "unresponsive connection"),
            ("Connection closed.", "connection closed"),
        ] {
            let error = fault(&Error::new(ErrorKind::IO, said));
            assert_eq!(error.to_string(), format!("redis cannot be reached: {shown}"));
        }
    }

    #[test]
    fn an_error_that_repeats_what_was_sent_is_not_shown() {
        for said in [
            "ERR unknown command 'AUTH', with args beginning with: 'breaker' 'hunter2' ",
            "ERR unknown command `HELLO`, with args beginning with: `3`, `AUTH`, `u`, `hunter2`, ",
        ] {
            for kind in [ErrorKind::Unknown, ErrorKind::Protocol, ErrorKind::IO] {
                let error = fault(&Error::new(kind, said));
                assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
            }
        }
    }

    #[test]
    fn the_word_in_a_wrapped_error_decides() {
        let said = "ERR Error running script (call to f_1): @user_script:3: WRONGTYPE Operation";
        let error = fault(&Error::new(ErrorKind::Unknown, said));
        assert!(!error.is_unavailable() && error.to_string().contains("not ours"));
        assert!(
            fault(&Error::new(ErrorKind::Unknown, "-OOM command not allowed")).is_unavailable()
        );
    }
}
