//! Random histories, with a clock that also goes back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::records::Records;
use crate::backend::{
    Attention, Batch, Count, Cursor, Failures, Geometry, Group, Heartbeat, Lease, Move, Notice,
    OpenTerms, OverrideChange, OverrideRecord, Probed, RecordState, Report, Sender, Shares, View,
};
use crate::machine::{OverrideState, Reason, Tally};
use crate::name::CircuitName;

/// A replica that applies every answer, and its cursor.
#[derive(Default)]
struct Follower {
    since: Cursor,
    views: BTreeMap<CircuitName, View>,
}

struct History {
    records: Records,
    random: fastrand::Rng,
    now: u64,
    circuits: Vec<CircuitName>,
    follower: Follower,
    seqs: BTreeMap<String, u64>,
    leases: Vec<Lease>,
    seen: BTreeMap<CircuitName, View>,
    version: u64,
}

#[test]
fn whatever_happens_nothing_panics_and_the_laws_hold() {
    for seed in 0..400 {
        let mut history = History::new(seed);
        for _ in 0..300 {
            history.step();
        }
    }
}

#[test]
fn what_lasts_too_long_is_cut_when_the_clock_goes_back() {
    let mut records = Records::default();
    let circuit = CircuitName::expect("a");
    let hour = 3_600_000_000;
    let now = 10 * hour;
    let terms = OpenTerms { interval: s(2), lease: s(10), probes: 1, ..OpenTerms::default() };
    let (reason, tally) = (Reason::FailureRate, Tally::default());
    let open = Move::Open { terms, reason, tally, last_error: None };
    let group = records.group_of(&circuit, now);
    let (opened, _) = group.transition(&circuit, 1, &open, now);

    let back = now - hour;
    let ((lease, view), _) = group.acquire_probe(&circuit, opened.generation, 1, back);
    assert_eq!((lease, view.state), (None, RecordState::Open { terms, remaining: s(2) }));
    let due = back + 2_000_000;
    let ((lease, _), _) = group.acquire_probe(&circuit, opened.generation, 1, due);
    let lease = lease.expect("a lease");
    let ((none, view), _) = group.acquire_probe(&circuit, lease.generation, 2, due - hour);
    let RecordState::HalfOpen { next_expiry, .. } = view.state else { panic!("{view:?}") };
    assert_eq!((none, next_expiry), (None, Some(s(10))));
    let after = due - hour + 10_000_000;
    let ((next, _), _) = group.acquire_probe(&circuit, lease.generation, 2, after);
    assert!(next.is_some());
}

#[test]
fn evidence_counts_on_after_the_clock_went_back() {
    let mut records = Records::default();
    let circuit = CircuitName::expect("a");
    let group = Group::of(&circuit);
    let mut seq = 0;
    let mut send = |last_success: Option<Duration>, number: u64, now: u64| {
        seq += 1;
        let age = Duration::ZERO;
        let report = Report {
            circuit: circuit.clone(),
            generation: View::FIRST,
            window: Some(Geometry { millis: 10_000, buckets: 10 }),
            counts: vec![Count { age, calls: number, failures: number, slow_calls: 0 }],
            failures: vec![Failures { age, number }],
            last_success,
            vote: None,
            shares: Shares::None,
            attention: None,
        };
        let batch = Batch {
            sender: Sender { name: "a".to_owned(), id: "a".to_owned() },
            seq,
            since: Cursor::default(),
            seen: 0,
            reports: vec![report],
            circuits: Vec::new(),
        };
        let (changes, _) = records.group(group, now).sync(&batch, now);
        let tally = changes.views[0].1.tally;
        (tally.failures, tally.consecutive_failures)
    };
    let (second, hour) = (1_000_000, 3_600_000_000);
    assert_eq!(send(None, 3, 10 * hour), (3, 3));
    // Totals are of a window that is still to come; a streak is cut to the present.
    assert_eq!(send(None, 2, 9 * hour), (2, 5));
    assert_eq!(send(Some(Duration::ZERO), 0, 10 * hour), (0, 0));
    assert_eq!(send(None, 1, 9 * hour), (1, 0));
    assert_eq!(send(None, 1, 9 * hour + second), (2, 1));
}

impl History {
    fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let group = Group::of(&CircuitName::expect("0"));
        let names = (0..).map(|n: u32| CircuitName::expect(n.to_string()));
        let circuits = names.filter(|name| Group::of(name) == group).take(4).collect();
        Self {
            records: Records::default(),
            now: random.u64(..10_000_000_000),
            random,
            circuits,
            follower: Follower::default(),
            seqs: BTreeMap::new(),
            leases: Vec::new(),
            seen: BTreeMap::new(),
            version: 0,
        }
    }

    fn step(&mut self) {
        self.time_moves();
        let circuit = self.circuits[self.random.usize(..self.circuits.len())].clone();
        let now = self.now;
        let known = self.seen.get(&circuit).cloned().unwrap_or_default();
        let generation = match self.random.u8(..8) {
            0 => self.random.u64(..5),
            _ => known.generation,
        };
        let group = self.records.group_of(&circuit, now);
        let (view, notice) = match self.random.u8(..20) {
            0..3 => {
                let reason = Reason::FailureRate;
                let terms = terms(&mut self.random);
                let to = if self.random.bool() {
                    Move::Open { terms, reason, tally: Tally::default(), last_error: None }
                } else {
                    Move::Closed { reason: Reason::Override }
                };
                group.transition(&circuit, generation, &to, now)
            }
            3..8 => {
                let nonce = self.random.u64(..4);
                let ((lease, view), notice) = group.acquire_probe(&circuit, generation, nonce, now);
                self.leases.extend(lease);
                (view, notice)
            }
            8..11 if !self.leases.is_empty() => {
                let lease = self.leases.swap_remove(self.random.usize(..self.leases.len()));
                let result = match self.random.u8(..3) {
                    0 => Probed::Passed,
                    1 => Probed::Released,
                    _ => Probed::Failed {
                        terms: terms(&mut self.random),
                        reason: Reason::ProbeFailed,
                        last_error: None,
                    },
                };
                group.settle_probe(&circuit, lease, &result, now)
            }
            11 => match group.restore(&circuit, &known, now) {
                Ok(answer) => answer,
                Err(_) => return,
            },
            12 => {
                let change = override_change(&mut self.random);
                group.set_override(&circuit, &change, now)
            }
            13 if self.random.u8(..20) == 0 => {
                self.records.forget();
                (self.version, self.seqs) = (0, BTreeMap::new());
                return;
            }
            14 => {
                let id = self.random.u8(..5).to_string();
                let sender = Sender { name: id.clone(), id };
                let (version, impaired) = (String::new(), String::new());
                let heartbeat = Heartbeat { sender, version, impaired, seen: self.version };
                let roster = self.records.replicas.heartbeat(&heartbeat, now);
                assert!((1..=5).contains(&roster.live) && roster.newest <= self.version);
                return;
            }
            _ => return self.sync(&circuit, generation),
        };
        self.follow(&notice.into_iter().collect::<Vec<_>>());
        self.check(circuit, view);
    }

    fn time_moves(&mut self) {
        self.now = match self.random.u8(..40) {
            0 => self.random.u64(..self.now.max(1)),
            1 => self.now.saturating_sub(self.random.u64(..5_000_000_000)),
            2 => self.now.saturating_add(self.random.u64(..10_000_000_000)),
            3 => 0,
            4..15 => self.now,
            _ => self.now.saturating_add(self.random.u64(..1_000_000)),
        };
    }

    fn sync(&mut self, circuit: &CircuitName, generation: u64) {
        let name = self.random.u8(..4).to_string();
        let seq = self.seqs.entry(name.clone()).or_default();
        *seq += 1;
        let known = self.seen.get(circuit).and_then(|view| view.suspect);
        let roll = known.map_or(0, |roll| roll.id);
        let report =
            self.random.bool().then(|| report(&mut self.random, circuit, generation, roll));
        let mut batch = Batch {
            sender: Sender { name: name.clone(), id: name },
            seq: *seq,
            since: self.follower.since,
            seen: self.follower.since.version,
            reports: report.into_iter().collect(),
            circuits: self.circuits.clone(),
        };
        let (group, now) = (Group::of(circuit), self.now);
        let (changes, notices) = self.records.group(group, now).sync(&batch, now);
        self.follow(&notices);
        batch.since = Cursor::default();
        let (again, notices) = self.records.group(group, now).sync(&batch, now);
        assert_eq!(notices, [], "the same batch");
        let sorted = |views: Vec<_>| views.into_iter().collect::<BTreeMap<_, View>>();
        assert_eq!(sorted(changes.views.clone()), sorted(again.views));

        assert!(!changes.more && changes.cursor.version == self.version);
        let views = changes.views.iter().map(|(name, _)| name).collect::<BTreeSet<_>>();
        assert_eq!(views.len(), changes.views.len(), "one view for each circuit");
        for (circuit, view) in &changes.views {
            self.check(circuit.clone(), view.clone());
        }
        self.follower_reads();
    }

    /// Reads what has changed since the last time, and nothing else.
    fn follower_reads(&mut self) {
        let batch = Batch {
            sender: Sender { name: "follower".to_owned(), id: "follower".to_owned() },
            seq: 0,
            since: self.follower.since,
            seen: 0,
            reports: Vec::new(),
            circuits: Vec::new(),
        };
        let (group, now) = (Group::of(&self.circuits[0]), self.now);
        let (changes, _) = self.records.group(group, now).sync(&batch, now);
        if changes.restarted {
            self.follower.views.clear();
        }
        self.follower.since = changes.cursor;
        self.follower.views.extend(changes.views);

        let all = Batch { circuits: self.circuits.clone(), since: changes.cursor, ..batch };
        let (all, _) = self.records.group(group, now).sync(&all, now);
        for (circuit, view) in all.views {
            let known = self.follower.views.get(&circuit).cloned().unwrap_or_default();
            // Only what is plain may have expired unseen.
            if view.generation > View::FIRST {
                assert_eq!(known.generation, view.generation);
                assert!(known.state.is_like(&view.state));
            }
            if let Some(roll) = view.suspect {
                assert_eq!(known.suspect.map(|roll| roll.id), Some(roll.id));
            }
            if view.overridden.record.is_some() {
                assert_eq!(known.overridden.version, view.overridden.version);
            }
        }
    }

    /// Notices follow each other without a gap.
    fn follow(&mut self, notices: &[Notice]) {
        for notice in notices {
            let Notice::Changed { previous, version, .. } = notice else { panic!("{notice:?}") };
            assert!(*previous == self.version && *version > *previous);
            self.version = *version;
        }
    }

    fn check(&mut self, circuit: CircuitName, view: View) {
        let known = self.seen.get(&circuit).cloned().unwrap_or_default();
        let is_there = view.revision > 0;
        assert!(!is_there || view.generation > View::FIRST || view.state == RecordState::Closed);
        match view.state {
            RecordState::Closed => {}
            RecordState::Open { terms, remaining } => assert!(remaining <= terms.interval),
            RecordState::HalfOpen { terms, out, next_expiry, .. } => {
                assert!(out <= terms.probes);
                assert!(next_expiry.is_none_or(|expiry| expiry <= terms.lease));
            }
        }
        if let Some(OverrideRecord { remaining: Some(remaining), .. }) = view.overridden.record {
            assert!(remaining <= s(100));
        }
        if is_there && known.generation > View::FIRST && view.generation == known.generation {
            assert!(view.revision >= known.revision);
        }
        self.seen.insert(circuit, view);
    }
}

fn terms(random: &mut fastrand::Rng) -> OpenTerms {
    OpenTerms {
        interval: ms(random.u64(1..20_000)),
        reopenings: 0,
        probes: random.u64(..3),
        lease: ms(random.u64(1..5_000)),
        successes_to_close: random.u64(..3),
    }
}

fn override_change(random: &mut fastrand::Rng) -> OverrideChange {
    match random.u8(..3) {
        0 => OverrideChange::Clear,
        1 => OverrideChange::Reset,
        _ => OverrideChange::Set(OverrideRecord {
            state: OverrideState::ForcedOpen,
            reason: String::new(),
            actor: None,
            remaining: random.bool().then(|| ms(random.u64(..100_000))),
        }),
    }
}

fn report(
    random: &mut fastrand::Rng,
    circuit: &CircuitName,
    generation: u64,
    after: u64,
) -> Report {
    let age = |random: &mut fastrand::Rng| match random.u8(..10) {
        0 => Duration::MAX,
        _ => ms(random.u64(..5_000)),
    };
    let number = random.u64(..3);
    let count = Count { age: age(random), calls: number, failures: number, slow_calls: number };
    Report {
        circuit: circuit.clone(),
        generation,
        window: random
            .bool()
            .then(|| Geometry { millis: random.u64(..4_000), buckets: random.u32(..70) }),
        counts: vec![count; random.usize(..3)],
        failures: vec![Failures { age: age(random), number }; random.usize(..3)],
        last_success: random.bool().then(|| age(random)),
        vote: random.bool().then(|| age(random)),
        shares: [Shares::None, Shares::Count, Shares::Return][random.usize(..3)],
        attention: match random.u8(..6) {
            0 => Some(Attention::RollCall { after: 0 }),
            1 => Some(Attention::RollCall { after }),
            2 => Some(Attention::Quiet { after }),
            _ => None,
        },
    }
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
