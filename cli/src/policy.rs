//! A policy as an argument: a preset, and settings.

use std::str::FromStr;

use tower_breaker::Policy;
use tower_breaker::policy::{Cancelled, PolicyBuilder};

use crate::args::time;

const PRESETS: &str = "default, database, cache, http_api, authentication or only";

/// Reads `PRESET,SETTING=VALUE,…`. Without a preset, the settings change the default policy.
pub(crate) fn parse(text: &str) -> Result<Policy, String> {
    let mut builder = None;
    for part in text.split(',').map(str::trim) {
        builder = Some(match (part.split_once('='), builder) {
            (Some((name, value)), before) => {
                set(before.unwrap_or_else(Policy::builder), name.trim(), value.trim())?
            }
            (None, None) => preset(part)?,
            (None, Some(_)) => {
                return Err(format!("`{part}` is no setting, expected one as in open_for=10s"));
            }
        });
    }
    builder.unwrap_or_else(Policy::builder).build().map_err(|error| error.to_string())
}

fn preset(name: &str) -> Result<PolicyBuilder, String> {
    Ok(match name {
        "default" => Policy::builder(),
        "database" => Policy::database().to_builder(),
        "cache" => Policy::cache().to_builder(),
        "http_api" => Policy::http_api().to_builder(),
        "authentication" => Policy::authentication().to_builder(),
        "only" => Policy::only(),
        _ => return Err(format!("`{name}` is no policy, expected {PRESETS}")),
    })
}

/// Settings have the names of the builder's methods. `off` turns a condition off.
fn set(builder: PolicyBuilder, name: &str, value: &str) -> Result<PolicyBuilder, String> {
    let number = || of::<u64>(name, value, "a number");
    let fraction = || of::<f64>(name, value, "a number, as in 0.5");
    let duration = || time(value).map_err(|problem| wrong(name, value, &problem));
    Ok(match (name, value) {
        ("consecutive_failures", "off") => builder.without_consecutive_failures(),
        ("consecutive_failures", _) => builder.consecutive_failures(number()?),
        ("failure_rate", "off") => builder.without_failure_rate(),
        ("failure_rate", _) => builder.failure_rate(fraction()?),
        ("failure_count", "off") => builder.without_failure_count(),
        ("failure_count", _) => builder.failure_count(number()?),
        ("slow_call_rate", "off") => builder.without_slow_call_rate(),
        ("slow_call_rate", _) => builder.slow_call_rate(fraction()?),
        ("slow_call_duration", _) => builder.slow_call_duration(duration()?),
        ("minimum_calls", _) => builder.minimum_calls(number()?),
        ("time_window", _) => builder.time_window(duration()?),
        ("count_window", _) => builder.count_window(number()?),
        ("open_for", _) => builder.open_for(duration()?),
        ("backoff", _) => {
            let (multiplier, longest) = value.split_once(':').ok_or_else(|| {
                wrong(name, value, "expected a multiplier and the longest interval, as in 2:5m")
            })?;
            let multiplier = of::<f64>(name, multiplier, "a multiplier, as in 2:5m")?;
            builder.backoff(multiplier, time(longest).map_err(|why| wrong(name, longest, &why))?)
        }
        ("probes", _) => builder.probes(number()?),
        ("successes_to_close", _) => builder.successes_to_close(number()?),
        ("probe_lease", _) => builder.probe_lease(duration()?),
        ("jitter", _) => builder.jitter(fraction()?),
        ("cancelled", "failure_if_slow") => builder.cancelled(Cancelled::FailureIfSlow),
        ("cancelled", "failure") => builder.cancelled(Cancelled::Failure),
        ("cancelled", "ignored") => builder.cancelled(Cancelled::Ignored),
        ("cancelled", _) => {
            return Err(wrong(name, value, "expected failure_if_slow, failure or ignored"));
        }
        _ => {
            return Err(format!(
                "`{name}` is no setting, expected consecutive_failures, failure_rate, \
                 failure_count, slow_call_rate, slow_call_duration, minimum_calls, time_window, \
                 count_window, open_for, backoff, probes, successes_to_close, probe_lease, jitter \
                 or cancelled"
            ));
        }
    })
}

fn of<T: FromStr>(name: &str, value: &str, expected: &str) -> Result<T, String> {
    value.parse().map_err(|_| wrong(name, value, &format!("expected {expected}")))
}

fn wrong(name: &str, value: &str, problem: &str) -> String {
    format!("`{name}` is `{value}`, {problem}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_policy_is_a_preset_settings_or_both() {
        assert_eq!(parse("default").unwrap(), Policy::default());
        assert_eq!(parse("cache").unwrap(), Policy::cache());
        let policy = parse("http_api, failure_rate=0.3,open_for=10s,backoff=3:1m").unwrap();
        assert_eq!(policy.failure_rate(), Some(0.3));
        assert_eq!(policy.open_for(), Duration::from_secs(10));
        assert_eq!(policy.longest_open_for(), Duration::from_secs(60));
        assert_eq!(policy.consecutive_failures(), Some(10));
        let policy = parse("consecutive_failures=off,failure_count=3,cancelled=ignored").unwrap();
        assert_eq!((policy.consecutive_failures(), policy.failure_count()), (None, Some(3)));
    }

    #[test]
    fn what_is_wrong_with_a_policy_is_said() {
        for (text, problem) in [
            ("htp_api", "`htp_api` is no policy, expected default, database"),
            ("", "`` is no policy"),
            ("cache,database", "`database` is no setting"),
            ("failure_rte=0.3", "`failure_rte` is no setting, expected consecutive_failures"),
            ("failure_rate=x", "`failure_rate` is `x`, expected a number, as in 0.5"),
            ("failure_rate=50", "did you mean 0.5?"),
            ("open_for=10", "`open_for` is `10`, expected a number and a unit"),
            ("backoff=2", "as in 2:5m"),
            ("cancelled=no", "expected failure_if_slow, failure or ignored"),
            ("only", "at least one, or the circuit never opens"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(problem), "{text}: {error}");
        }
    }
}
