//! Reads the settings of a store from text, as variables and files contain it.

use std::collections::BTreeSet;
use std::time::Duration;

use super::data::{Config, Start};
use crate::name::CircuitName;

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);
const MOST_KEYS: u32 = 10_000_000;
const MOST_SAMPLE: u32 = 1_000_000;

impl Config {
    /// Reads the setting with this name, which is one of [`STORE`](super::names::STORE). The error
    /// says what was expected.
    pub(super) fn read(&mut self, name: &str, text: &str) -> Result<(), String> {
        let own = || Some(text.to_owned());
        match name {
            "redis_url" => self.redis_url = own(),
            "redis_password" => self.redis_password = own(),
            "redis_ca_file" => self.redis_ca_file = own(),
            "prefix" => self.prefix = own(),
            "replica" => self.replica = own(),
            "critical" => self.critical = Some(circuits(text)?),
            _ => return self.read_word(name, &text.trim().to_ascii_lowercase()),
        }
        Ok(())
    }

    fn read_word(&mut self, name: &str, text: &str) -> Result<(), String> {
        match name {
            "enabled" => self.enabled = Some(boolean(text)?),
            "start" => self.start = start(text)?,
            "deadline" => self.deadline = Some(time(text, MS, 10 * S)?),
            "report_interval" => self.report_interval = Some(time(text, 10 * MS, 10 * S)?),
            "budget" => self.budget = Some(number(text, 1, 100_000)?),
            "key_limit" => {
                let limit = number(text, 0, MOST_KEYS)?;
                self.key_limit = Some(usize::try_from(limit).unwrap_or(usize::MAX));
            }
            "key_idle" => self.key_idle = Some(idle(text)?),
            "latency_sample" => self.latency_sample = Some(sample(text)?),
            "key_latency_sample" => self.key_latency_sample = Some(sample(text)?),
            _ => unreachable!("every setting of the store is read: {name}"),
        }
        Ok(())
    }
}

fn circuits(text: &str) -> Result<BTreeSet<CircuitName>, String> {
    let names = text.split(',').map(|name| CircuitName::new(name.trim().to_owned()).ok());
    let most = CircuitName::MAX_BYTES;
    names.collect::<Option<_>>().ok_or_else(|| {
        format!("names of circuits, each of 1 to {most} bytes, with commas between them")
    })
}

fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err("true or false".to_owned()),
    }
}

fn start(text: &str) -> Result<Start, String> {
    match text {
        "degraded" => Ok(Start::Degraded),
        "fail" => Ok(Start::Fail),
        _ => Err("degraded or fail".to_owned()),
    }
}

fn number(text: &str, least: u32, most: u32) -> Result<u32, String> {
    let number = text.parse().ok().filter(|n| (least..=most).contains(n));
    number.ok_or_else(|| format!("a number from {least} to {most}"))
}

fn sample(text: &str) -> Result<u32, String> {
    if text == "off" {
        return Ok(0);
    }
    number(text, 0, MOST_SAMPLE).map_err(|expected| format!("{expected}, or off"))
}

fn time(text: &str, least: Duration, most: Duration) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).ok();
    let time = time.filter(|time| (least..=most).contains(time));
    time.ok_or_else(|| format!("a time from {least:?} to {most:?}, as in 50ms"))
}

fn idle(text: &str) -> Result<Duration, String> {
    if ["off", "none", "false"].contains(&text) {
        return Ok(Duration::MAX);
    }
    let time = humantime::parse_duration(text).ok().filter(|time| *time >= S);
    time.ok_or_else(|| "a time of 1s or more, as in 10m, or off".to_owned())
}
