//! The laws of `Backend`, and what else a replica relies on; for every backend.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::Receiver;
use tower_breaker::CircuitName;
use tower_breaker::backend::{
    Backend, Delta, Geometry, Lease, MemoryBackend, Move, Notice, OpenTerms, OverrideRecord,
    Probed, RecordState, Report, View,
};
use tower_breaker::event::{Reason, Tally};
use tower_breaker::overrides::OverrideState;

use crate::support::{advance, ms, paused, s};

/// A ledger, as two replicas reach it, and its time.
pub(crate) trait World {
    /// One replica's way to the ledger, and another's.
    fn replicas(&self) -> (Arc<dyn Backend>, Arc<dyn Backend>);

    /// Loses all records.
    async fn forget(&self);

    /// Lets so much of the ledger's time pass.
    async fn wait(&self, time: Duration);
}

/// Every law, once per backend. Add yours.
macro_rules! laws {
    ($($law:ident)*) => {
        mod memory {
            $(#[test]
            fn $law() {
                super::paused(super::$law(super::InMemory::new()));
            })*
        }

        #[cfg(feature = "redis")]
        mod redis {
            $(#[test]
            fn $law() {
                super::real(async { super::$law(super::InRedis::alone().await).await });
            })*
        }

        /// Those whose servers take a while to start play all laws on one.
        #[cfg(feature = "redis")]
        async fn every_law(world: impl Fn() -> InRedis) {
            $($law(world()).await;)*
        }
    };
}

laws! {
    absent_is_closed_and_only_a_report_makes_a_record
    of_two_transitions_one_wins_and_the_other_is_told
    an_open_circuit_stays_so_for_as_long_as_the_ledger_says
    what_bears_another_generation_changes_nothing
    generations_grow_even_if_the_record_was_lost
    a_report_that_is_sent_again_adds_nothing
    leases_are_few_and_the_same_nonce_gets_the_same
    a_lease_that_nobody_settles_is_free_again_after_its_length
    a_failed_probe_ends_its_round
    enough_good_probes_close_the_circuit
    a_released_probe_frees_its_place_and_passes_nothing
    what_happens_is_told_to_all
    a_window_slides_and_windows_are_counted_apart
    a_success_ends_the_streak_unless_failures_came_after_it
    shares_add_up_to_the_total
    votes_count_until_they_run_out_or_are_withdrawn
    a_ledger_that_has_forgotten_is_told
    what_is_half_open_is_restored_as_open_and_over
    a_restored_interval_is_not_longer_than_it_was
    a_setting_lasts_for_as_long_as_it_says_and_ends_in_a_new_generation
    a_setting_outlives_the_record_and_is_restored_by_its_version
}

fn name() -> CircuitName {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    CircuitName::new(format!("circuit {}", NUMBER.fetch_add(1, Ordering::Relaxed))).unwrap()
}

const OPENING: OpenTerms =
    OpenTerms { interval: ms(40), reopenings: 0, probes: 2, lease: s(60), successes_to_close: 2 };

const WINDOW: Geometry = Geometry { millis: 3_600_000, buckets: 10 };

fn open(terms: OpenTerms) -> Move {
    let tally =
        Tally { calls: 9, failures: 8, slow_calls: 1, consecutive_failures: 3, ..Tally::default() };
    Move::Open { terms, reason: Reason::FailureRate, tally }
}

fn report(replica: &str, seq: u64, generation: u64, failures: u64) -> Report {
    let delta = Delta { calls: failures, failures, streak: failures, ..Delta::default() };
    Report {
        replica: replica.to_owned(),
        seq,
        generation,
        delta,
        window: Some(WINDOW),
        vote: None,
        shares: false,
    }
}

/// Opens the circuit and waits until it may be probed.
async fn ripe(
    world: &impl World,
    backend: &dyn Backend,
    name: &CircuitName,
    terms: OpenTerms,
) -> View {
    let from = backend.load(name).await.unwrap().generation;
    let view = backend.transition(name, from, &open(terms)).await.unwrap();
    world.wait(terms.interval).await;
    view
}

async fn probe(backend: &dyn Backend, name: &CircuitName, generation: u64, nonce: u64) -> Lease {
    let (lease, view) = backend.acquire_probe(name, generation, nonce).await.unwrap();
    lease.unwrap_or_else(|| panic!("no lease: {view:?}"))
}

async fn told(notices: &mut Receiver<Notice>, name: &CircuitName) -> View {
    let told = async {
        loop {
            if let Notice::View(about, view) = notices.recv().await.unwrap()
                && about == *name
            {
                return view;
            }
        }
    };
    *tokio::time::timeout(s(20), told).await.expect("to be told")
}

fn failed(terms: OpenTerms) -> Probed {
    Probed::Failed { terms, reason: Reason::ProbeFailed }
}

async fn absent_is_closed_and_only_a_report_makes_a_record(world: impl World) {
    let ((one, other), name) = (world.replicas(), name());
    assert_eq!(one.load(&name).await.unwrap(), View::default());
    let (lease, view) = one.acquire_probe(&name, View::FIRST, 1).await.unwrap();
    assert_eq!((lease, view), (None, View::default()));
    assert_eq!(one.report(&name, &report("a", 0, 1, 2)).await.unwrap(), View::default());
    assert_eq!(one.report(&name, &report("a", 1, 7, 2)).await.unwrap(), View::default());
    let lease = Lease { generation: 1, nonce: 1, remaining: s(1) };
    assert_eq!(one.settle_probe(&name, lease, &Probed::Passed).await.unwrap(), View::default());

    let view = one.report(&name, &report("a", 1, 1, 2)).await.unwrap();
    assert_eq!((view.generation, view.tally.failures), (View::FIRST, 2));
    assert!(other.load(&name).await.unwrap().revision > 0);
}

async fn of_two_transitions_one_wins_and_the_other_is_told(world: impl World) {
    let ((one, other), name) = (world.replicas(), name());
    let winner = open(OpenTerms { interval: s(60), ..OPENING });
    let loser = Move::Closed { reason: Reason::Override };
    let won = one.transition(&name, 1, &winner).await.unwrap();
    let lost = other.transition(&name, 1, &loser).await.unwrap();
    assert_eq!((won.generation, won.revision), (lost.generation, lost.revision));
    assert_eq!(lost.reason, Some(Reason::FailureRate));
    assert_eq!(won.tally.consecutive_failures, 3);
    assert!(matches!(lost.state, RecordState::Open { terms, .. } if terms.probes == 2));
}

async fn an_open_circuit_stays_so_for_as_long_as_the_ledger_says(world: impl World) {
    let ((one, other), name) = (world.replicas(), name());
    let terms = OpenTerms { interval: ms(300), ..OPENING };
    let opened = one.transition(&name, 1, &open(terms)).await.unwrap();
    for replica in [&one, &other] {
        let (lease, view) = replica.acquire_probe(&name, opened.generation, 1).await.unwrap();
        assert_eq!(lease, None);
        let RecordState::Open { remaining, .. } = view.state else { panic!("{view:?}") };
        assert!(remaining <= ms(300) && remaining > Duration::ZERO);
    }
    world.wait(ms(300)).await;
    let view = other.load(&name).await.unwrap();
    assert_eq!(view.state, RecordState::Open { terms, remaining: Duration::ZERO });
    let lease = probe(&*other, &name, opened.generation, 1).await;
    assert!(lease.generation > opened.generation);
}

async fn what_bears_another_generation_changes_nothing(world: impl World) {
    let ((one, _), name) = (world.replicas(), name());
    one.report(&name, &report("a", 1, 1, 3)).await.unwrap();
    let closed = Move::Closed { reason: Reason::Override };
    let now = one.transition(&name, 1, &closed).await.unwrap();
    for old in [0, 1, now.generation - 1, now.generation + 1] {
        let view = one.report(&name, &report("a", 9, old, 3)).await.unwrap();
        assert_eq!(view, now);
        assert_eq!(one.transition(&name, old, &open(OPENING)).await.unwrap(), now);
        let (lease, view) = one.acquire_probe(&name, old, 1).await.unwrap();
        assert_eq!((lease, view), (None, now.clone()));
        let lease = Lease { generation: old, nonce: 1, remaining: s(1) };
        assert_eq!(one.settle_probe(&name, lease, &Probed::Passed).await.unwrap(), now);
    }
}

async fn generations_grow_even_if_the_record_was_lost(world: impl World) {
    let ((one, _), name) = (world.replicas(), name());
    let mut last = 1;
    for _ in 0..5 {
        let now = one.load(&name).await.unwrap().generation;
        let view = one.transition(&name, now, &open(OPENING)).await.unwrap();
        assert!(view.generation > last);
        last = view.generation;
    }
    // The generations of a busy moment may be ahead of the time.
    world.wait(ms(10)).await;
    world.forget().await;
    let view = one.transition(&name, 1, &open(OPENING)).await.unwrap();
    assert!(view.generation > last);
}

async fn a_report_that_is_sent_again_adds_nothing(world: impl World) {
    let ((one, other), name) = (world.replicas(), name());
    one.report(&name, &report("a", 1, 1, 2)).await.unwrap();
    one.report(&name, &report("a", 2, 1, 3)).await.unwrap();
    for again in [0, 1, 2] {
        let view = other.report(&name, &report("a", again, 1, 50)).await.unwrap();
        assert_eq!((view.tally.failures, view.tally.consecutive_failures), (5, 5));
    }
    let view = other.report(&name, &report("b", 1, 1, 4)).await.unwrap();
    assert_eq!((view.tally.failures, view.tally.consecutive_failures), (9, 9));
}

async fn leases_are_few_and_the_same_nonce_gets_the_same(world: impl World) {
    let ((one, other), name) = (world.replicas(), name());
    let opened = ripe(&world, &*one, &name, OPENING).await;
    let first = probe(&*one, &name, opened.generation, 1).await;
    let second = probe(&*other, &name, first.generation, u64::MAX).await;
    let (third, view) = other.acquire_probe(&name, first.generation, 3).await.unwrap();
    assert_eq!(third, None);
    let RecordState::HalfOpen { out, next_expiry, passed, .. } = view.state else { panic!() };
    assert_eq!((out, passed, first.generation), (2, 0, second.generation));
    assert!(next_expiry.unwrap() <= OPENING.lease);
    // Even with the generation that it first asked for.
    for generation in [opened.generation, first.generation] {
        let again = probe(&*one, &name, generation, 1).await;
        assert_eq!((again.generation, again.nonce), (first.generation, 1));
        assert!(again.remaining <= first.remaining);
    }
}

async fn a_lease_that_nobody_settles_is_free_again_after_its_length(world: impl World) {
    let ((one, other), name) = (world.replicas(), name());
    let terms = OpenTerms { probes: 1, lease: ms(100), ..OPENING };
    let opened = ripe(&world, &*one, &name, terms).await;
    let lease = probe(&*one, &name, opened.generation, 1).await;
    world.wait(ms(100)).await;
    let before = other.load(&name).await.unwrap();
    assert!(matches!(before.state, RecordState::HalfOpen { out: 0, next_expiry: None, .. }));
    // Its result is worth nothing any more, and it does not come back to life.
    assert_eq!(one.settle_probe(&name, lease, &Probed::Passed).await.unwrap(), before);
    let next = probe(&*other, &name, lease.generation, 2).await;
    assert_eq!(next.generation, lease.generation);
}

async fn a_failed_probe_ends_its_round(world: impl World) {
    let ((one, other), name) = (world.replicas(), name());
    let opened = ripe(&world, &*one, &name, OpenTerms { successes_to_close: 1, ..OPENING }).await;
    let bad = probe(&*one, &name, opened.generation, 1).await;
    let good = probe(&*other, &name, bad.generation, 2).await;

    let longer = OpenTerms { interval: s(60), reopenings: 1, ..OPENING };
    let view = one.settle_probe(&name, bad, &failed(longer)).await.unwrap();
    assert!(view.generation > bad.generation);
    assert_eq!(view.reason, Some(Reason::ProbeFailed));
    let late = other.settle_probe(&name, good, &Probed::Passed).await.unwrap();
    assert_eq!(late.generation, view.generation);
    assert!(matches!(late.state, RecordState::Open { terms, .. } if terms == longer));
}

async fn enough_good_probes_close_the_circuit(world: impl World) {
    let ((one, other), name) = (world.replicas(), name());
    let opened = ripe(&world, &*one, &name, OPENING).await;
    let first = probe(&*one, &name, opened.generation, 1).await;
    let half = one.settle_probe(&name, first, &Probed::Passed).await.unwrap();
    assert!(matches!(half.state, RecordState::HalfOpen { passed: 1, out: 0, .. }));
    // Settled once, it is over.
    assert_eq!(one.settle_probe(&name, first, &Probed::Passed).await.unwrap(), half);
    let second = probe(&*other, &name, first.generation, 2).await;
    let closed = other.settle_probe(&name, second, &Probed::Passed).await.unwrap();
    assert_eq!((closed.state, closed.reason), (RecordState::Closed, Some(Reason::ProbesSucceeded)));
    assert!(closed.generation > first.generation);
    assert_eq!(closed.tally, Tally::default());
}

async fn a_released_probe_frees_its_place_and_passes_nothing(world: impl World) {
    let ((one, _), name) = (world.replicas(), name());
    let terms = OpenTerms { probes: 1, successes_to_close: 1, ..OPENING };
    let opened = ripe(&world, &*one, &name, terms).await;
    let first = probe(&*one, &name, opened.generation, 1).await;
    let view = one.settle_probe(&name, first, &Probed::Released).await.unwrap();
    assert!(matches!(view.state, RecordState::HalfOpen { passed: 0, out: 0, .. }));
    let next = probe(&*one, &name, first.generation, 2).await;
    assert_eq!(next.generation, first.generation);
}

async fn what_happens_is_told_to_all(world: impl World) {
    let ((one, other), name) = (world.replicas(), name());
    let (mut here, mut there) = (one.subscribe(), other.subscribe());
    let opened = ripe(&world, &*one, &name, OPENING).await;
    for notices in [&mut here, &mut there] {
        assert_eq!(told(notices, &name).await.generation, opened.generation);
    }
    let lease = probe(&*other, &name, opened.generation, 1).await;
    for notices in [&mut here, &mut there] {
        assert_eq!(told(notices, &name).await.generation, lease.generation);
    }
    let released = one.settle_probe(&name, lease, &Probed::Released).await.unwrap();
    for notices in [&mut here, &mut there] {
        assert_eq!(told(notices, &name).await, released);
    }
    let setting = setting(None);
    one.set_override(&name, Some(&setting)).await.unwrap();
    assert_eq!(told(&mut there, &name).await.overridden.record, Some(setting));
}

async fn a_window_slides_and_windows_are_counted_apart(world: impl World) {
    let ((one, _), name) = (world.replicas(), name());
    let window = Geometry { millis: 400, buckets: 4 };
    let sliding = |seq, failures| Report { window: Some(window), ..report("a", seq, 1, failures) };
    let steady = one.report(&name, &report("b", 1, 1, 1)).await.unwrap();
    assert_eq!(steady.tally.failures, 1);
    let view = one.report(&name, &sliding(1, 5)).await.unwrap();
    assert_eq!((view.tally.failures, view.tally.consecutive_failures), (5, 6));
    world.wait(ms(400)).await;
    let view = one.report(&name, &sliding(2, 2)).await.unwrap();
    assert_eq!((view.tally.calls, view.tally.failures), (2, 2));
    let steady = one.report(&name, &report("b", 0, 1, 0)).await.unwrap();
    assert_eq!((steady.tally.failures, steady.tally.consecutive_failures), (1, 8));
}

async fn a_success_ends_the_streak_unless_failures_came_after_it(world: impl World) {
    let ((one, _), name) = (world.replicas(), name());
    let streak = async |seq, streak, succeeded| {
        let delta = Delta { calls: 1, streak, succeeded, ..Delta::default() };
        let report = Report { delta, window: None, ..report("a", seq, 1, 0) };
        one.report(&name, &report).await.unwrap().tally
    };
    assert_eq!(streak(1, 2, false).await.consecutive_failures, 2);
    assert_eq!(streak(2, 3, true).await.consecutive_failures, 5);
    assert_eq!(streak(3, 0, false).await.consecutive_failures, 5);
    let tally = streak(4, 0, true).await;
    // Without a window nothing else is counted.
    assert_eq!(tally, Tally::default());
}

async fn shares_add_up_to_the_total(world: impl World) {
    let ((one, other), name) = (world.replicas(), name());
    let shared = |replica, seq, n| Report { shares: true, ..report(replica, seq, 1, n) };
    one.report(&name, &shared("a", 1, 2)).await.unwrap();
    other.report(&name, &shared("b", 1, 30)).await.unwrap();
    let view = one.report(&name, &shared("a", 2, 5)).await.unwrap();
    let mut failures: Vec<_> = view.shares.iter().map(|share| share.failures).collect();
    failures.sort_unstable();
    assert_eq!((failures, view.tally.failures), (vec![7, 30], 37));
    let streaks: u64 = view.shares.iter().map(|share| share.consecutive_failures).sum();
    assert_eq!(streaks, view.tally.consecutive_failures);

    let good = Delta { calls: 1, succeeded: true, ..Delta::default() };
    let view = other.report(&name, &Report { delta: good, ..shared("b", 2, 0) }).await.unwrap();
    assert_eq!(view.tally, Tally { calls: 38, failures: 37, ..Tally::default() });
    assert!(view.shares.iter().all(|share| share.consecutive_failures == 0));
}

async fn votes_count_until_they_run_out_or_are_withdrawn(world: impl World) {
    let ((one, other), name) = (world.replicas(), name());
    let vote = |replica, seq, vote| Report { vote, ..report(replica, seq, 1, 1) };
    assert_eq!(one.report(&name, &vote("a", 1, Some(s(60)))).await.unwrap().votes, 1);
    assert_eq!(one.report(&name, &vote("b", 1, Some(s(60)))).await.unwrap().votes, 2);
    assert_eq!(one.report(&name, &vote("c", 1, Some(ms(50)))).await.unwrap().votes, 3);
    world.wait(ms(50)).await;
    assert_eq!(other.load(&name).await.unwrap().votes, 2);
    assert_eq!(one.report(&name, &vote("b", 2, None)).await.unwrap().votes, 1);
    let opened = one.transition(&name, 1, &open(OPENING)).await.unwrap();
    assert_eq!(opened.votes, 0);
}

async fn a_ledger_that_has_forgotten_is_told(world: impl World) {
    let ((one, other), name) = (world.replicas(), name());
    let terms = OpenTerms { interval: s(60), ..OPENING };
    let view = one.transition(&name, 1, &open(terms)).await.unwrap();
    // It knows that already.
    assert_eq!(one.restore(&name, &view).await.unwrap().revision, view.revision);
    world.forget().await;
    assert_eq!(other.load(&name).await.unwrap(), View::default());
    let restored = one.restore(&name, &view).await.unwrap();
    assert_eq!((restored.generation, restored.reason), (view.generation, view.reason));
    assert_eq!(restored.tally, view.tally);
    assert!(restored.revision > view.revision);
    assert!(matches!(restored.state, RecordState::Open { .. }));
    // Whoever knows less changes nothing.
    let older = one.restore(&name, &View::default()).await.unwrap();
    assert_eq!((older.generation, older.revision), (restored.generation, restored.revision));
}

async fn what_is_half_open_is_restored_as_open_and_over(world: impl World) {
    let ((one, other), name) = (world.replicas(), name());
    let opened = ripe(&world, &*one, &name, OPENING).await;
    let lease = probe(&*one, &name, opened.generation, 1).await;
    let view = one.load(&name).await.unwrap();
    world.forget().await;
    let restored = one.restore(&name, &view).await.unwrap();
    assert_eq!(restored.generation, view.generation);
    assert!(
        matches!(restored.state, RecordState::Open { remaining, .. } if remaining.is_zero()),
        "{restored:?}"
    );
    let next = probe(&*other, &name, restored.generation, 2).await;
    assert!(next.generation > lease.generation);
    let late = one.settle_probe(&name, lease, &failed(OPENING)).await.unwrap();
    assert_eq!(late.generation, next.generation);
}

async fn a_restored_interval_is_not_longer_than_it_was(world: impl World) {
    let ((one, _), name) = (world.replicas(), name());
    let mut view = View::default();
    view.generation = 77;
    view.state = RecordState::Open { terms: OPENING, remaining: s(3_600) };
    let restored = one.restore(&name, &view).await.unwrap();
    let RecordState::Open { remaining, .. } = restored.state else { panic!("{restored:?}") };
    assert!(remaining <= OPENING.interval);
    world.wait(OPENING.interval).await;
    probe(&*one, &name, 77, 1).await;
}

fn setting(remaining: Option<Duration>) -> OverrideRecord {
    OverrideRecord {
        state: OverrideState::ForcedOpen,
        reason: "a \"reason\"\nof two lines, with ü".to_owned(),
        actor: Some("me".to_owned()),
        remaining,
    }
}

async fn a_setting_lasts_for_as_long_as_it_says_and_ends_in_a_new_generation(world: impl World) {
    let ((one, other), name) = (world.replicas(), name());
    let first = one.set_override(&name, Some(&setting(None))).await.unwrap();
    assert_eq!(first.overridden.record, Some(setting(None)));
    assert_eq!((first.generation, first.revision), (View::FIRST, 0));

    let second = other.set_override(&name, Some(&setting(Some(ms(80))))).await.unwrap();
    assert!(second.overridden.version > first.overridden.version);
    assert!(second.overridden.record.unwrap().remaining.unwrap() <= ms(80));
    world.wait(ms(80)).await;
    let over = one.load(&name).await.unwrap();
    assert_eq!(
        (over.overridden.version, over.overridden.record),
        (second.overridden.version, None)
    );

    let ended = one.set_override(&name, None).await.unwrap();
    assert!(
        ended.overridden.version > second.overridden.version && ended.overridden.record.is_none()
    );
    assert!(ended.generation > View::FIRST);
    assert_eq!((ended.state, ended.reason), (RecordState::Closed, Some(Reason::Override)));
}

async fn a_setting_outlives_the_record_and_is_restored_by_its_version(world: impl World) {
    let ((one, other), name) = (world.replicas(), name());
    let old = one.set_override(&name, Some(&setting(Some(s(60))))).await.unwrap();
    let new = one
        .set_override(&name, Some(&OverrideRecord { actor: None, ..setting(None) }))
        .await
        .unwrap();
    world.forget().await;
    assert_eq!(
        other.restore(&name, &old).await.unwrap().overridden.version,
        old.overridden.version
    );
    assert_eq!(one.restore(&name, &new).await.unwrap().overridden, new.overridden);
    assert_eq!(other.restore(&name, &old).await.unwrap().overridden, new.overridden);
}

struct InMemory(Arc<MemoryBackend>);

impl InMemory {
    fn new() -> Self {
        Self(Arc::new(MemoryBackend::new()))
    }
}

impl World for InMemory {
    fn replicas(&self) -> (Arc<dyn Backend>, Arc<dyn Backend>) {
        (self.0.clone(), self.0.clone())
    }

    async fn forget(&self) {
        self.0.forget();
    }

    async fn wait(&self, time: Duration) {
        advance(time).await;
    }
}

#[cfg(feature = "redis")]
use crate::support::redis::real;
#[cfg(feature = "redis")]
pub(crate) use in_redis::InRedis;

#[cfg(feature = "redis")]
mod in_redis {
    use std::sync::Arc;
    use std::time::Duration;

    use tower_breaker::backend::{Backend, RedisBackend, RedisConfig};

    use super::{World, every_law};
    use crate::support::redis::{Cluster, Server, eventually, real};

    /// The ledger of a server of one's own, or of a cluster; its time is the servers'.
    #[derive(Clone)]
    pub(crate) struct InRedis {
        servers: Arc<Vec<Server>>,
        one: RedisBackend,
        other: RedisBackend,
    }

    impl InRedis {
        pub(crate) async fn alone() -> Self {
            let server = Server::start();
            let config = server.config();
            Self::of(vec![server], &config).await
        }

        async fn of(servers: Vec<Server>, config: &RedisConfig) -> Self {
            // Tests run side by side, and a machine may be busy.
            let config = config.clone().command_timeout(Duration::from_secs(2));
            let one = RedisBackend::connect(&config).await.unwrap();
            let other = RedisBackend::connect(&config).await.unwrap();
            Self { servers: Arc::new(servers), one, other }
        }
    }

    impl World for InRedis {
        fn replicas(&self) -> (Arc<dyn Backend>, Arc<dyn Backend>) {
            (Arc::new(self.one.clone()), Arc::new(self.other.clone()))
        }

        async fn forget(&self) {
            for server in &*self.servers {
                server.cli(&["FLUSHALL"]);
            }
        }

        async fn wait(&self, time: Duration) {
            let millis = u64::try_from(time.as_millis()).unwrap();
            for server in &*self.servers {
                let end = server.millis() + millis;
                eventually("time to pass", async || server.millis() > end).await;
            }
        }
    }

    #[test]
    fn every_law_holds_in_a_cluster() {
        real(async {
            let cluster = Cluster::start();
            let config = cluster.config();
            let world = InRedis::of(cluster.nodes, &config).await;
            every_law(|| world.clone()).await;
        });
    }

    #[cfg(feature = "redis-tls")]
    #[test]
    fn every_law_holds_over_tls() {
        real(async {
            let tls = crate::support::redis::TlsServer::start();
            let config = tls.config().tls_ca_file(tls.ca_file());
            let world = InRedis::of(vec![tls.server], &config).await;
            every_law(|| world.clone()).await;
        });
    }
}
