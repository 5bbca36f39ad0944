//! A circuit's part in a cluster: what it knows of the ledger, and what the ledger is to be told.
//!
//! All of it is behind the engine's lock, and none of it waits. A [`Link`] is told when there is
//! something to do; whoever is behind it takes the [`Work`], does it, and comes back with views.
//!
//! Laws:
//!
//! 1. Views come in any order, late and twice. The newest generation and revision known is in force;
//!    settings have an order of their own.
//! 2. A new generation ends what this replica has found out alone. A view of the generation that is
//!    known already does not: least of all does "closed" end what this replica has opened.
//! 3. Every result is in one delta, or of a generation that is over.
//! 4. Only an answer shows that the ledger has forgotten: what is pushed may just be late.

use std::mem::take;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::grant::Grant;
use super::locked::Locked;
use super::{Circuit, Held};
use crate::backend::{
    BackendError, Delta, Geometry, Lease, Move, Opening, Probed, Setting, Standing, View,
};
use crate::machine::{
    Event, Evidence, LeaseId, Ledger, Mark, Origin, Policy, Reason, Shape, Shared, State, Tally,
    Transition, Verdict,
};
use crate::timestamp::Timestamp;

/// A future that is kept in a service.
pub(crate) type Wait<T> = Pin<Box<dyn Future<Output = T> + Send + Sync>>;

/// Whoever keeps a circuit in agreement with the ledger.
pub(crate) trait Link: Send + Sync {
    /// There is [`Work`] that cannot wait for the next look. Called without a lock.
    fn wake(&self);

    /// Until the ledger's state is known, or has been given up.
    fn known(&self) -> Wait<()>;

    /// Asks the ledger for a probe's lease. A grant that nobody waits for any more is given back;
    /// with `keep` it is kept for who comes next.
    fn ask(&self, circuit: Circuit, keep: bool) -> Wait<Option<Held>>;
}

/// Tells whether everybody knows what a hand has set.
pub(super) type Told = oneshot::Receiver<Result<(), BackendError>>;

/// What the ledger is to be told.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) settled: Vec<Settled>,
    pub(crate) wish: Option<Wish>,
    /// The ledger has forgotten this.
    pub(crate) restore: Option<View>,
    /// Proposed, in this generation.
    pub(crate) proposal: Option<(u64, Move)>,
    pub(crate) news: News,
    /// Of failures, when the first of them was.
    pub(crate) failing_since: Option<Timestamp>,
    /// When a lease runs out whose call may still be under way.
    pub(crate) next_expiry: Option<Timestamp>,
    /// Whether the ledger's state passes calls: then there is no hurry to hear of a change.
    pub(crate) closed: bool,
}

/// How much there is to report, and how soon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum News {
    #[default]
    None,
    Successes,
    Failures,
    /// Others should know at once.
    Alarm,
}

/// A probe of the cluster's that has ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settled {
    pub(crate) lease: Lease,
    pub(crate) probed: Probed,
    verdict: Verdict,
}

/// A state set by hand here, of which the ledger does not know yet.
#[derive(Debug)]
pub(crate) struct Wish {
    pub(crate) setting: Option<Setting>,
    /// When it was wished: what remains of its time counts from here.
    pub(crate) at: Timestamp,
    /// Who waits to hear that everybody knows.
    pub(crate) told: Option<oneshot::Sender<Result<(), BackendError>>>,
}

/// A report, but for who sends it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Draft {
    pub(crate) generation: u64,
    pub(crate) delta: Delta,
    pub(crate) window: Option<Geometry>,
    pub(crate) vote: Option<Duration>,
    pub(crate) shares: bool,
}

/// How long a vote counts where the policy has no time window.
const VOTE: Duration = Duration::from_secs(60);

/// A replica that was refused asks again after so long, however long the leases of others are: they
/// may come back any time.
const ASK_AGAIN: Duration = Duration::from_millis(250);

/// A replica counts its lease as over a little before the ledger does, so that it can still say so.
const LEASE_MARGIN: Duration = Duration::from_millis(250);

#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct Member {
    link: Arc<dyn Link>,
    known: bool,
    /// The newest that is known of the ledger; its times count from `at`, its setting's from
    /// `imposed_at`.
    view: View,
    at: Timestamp,
    imposed_at: Timestamp,
    /// The ledger has forgotten it.
    restore: bool,
    /// Counted in the ledger's generation, and not reported.
    unreported: Evidence,
    succeeded: bool,
    news: News,
    failing_since: Option<Timestamp>,
    /// Opened on this replica's own evidence, in the ledger's generation.
    trip: Option<Move>,
    voted: bool,
    settled: Vec<Settled>,
    wish: Option<Wish>,
    proposal: Option<Move>,
    asking: bool,
    /// The link is to be woken, and has not been since it last took the work.
    ring: Ring,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Ring {
    #[default]
    Silent,
    Due,
    Rung,
}

impl Member {
    pub(super) fn new(link: Arc<dyn Link>, policy: &Policy, now: Timestamp) -> Self {
        Self {
            link,
            known: false,
            view: View::default(),
            at: now,
            imposed_at: now,
            restore: false,
            unreported: unreported(policy, now),
            succeeded: false,
            news: News::None,
            failing_since: None,
            trip: None,
            voted: false,
            settled: Vec::new(),
            wish: None,
            proposal: None,
            asking: false,
            ring: Ring::Silent,
        }
    }

    pub(super) fn link(&self) -> &Arc<dyn Link> {
        &self.link
    }

    pub(super) fn is_known(&self) -> bool {
        self.known
    }

    /// The link, if it is to be woken.
    pub(super) fn ring(&mut self) -> Option<Arc<dyn Link>> {
        let due = self.ring == Ring::Due;
        due.then(|| {
            self.ring = Ring::Rung;
            self.link.clone()
        })
    }

    pub(super) fn successes(&mut self, n: u64) {
        if n > 0 {
            self.unreported.successes(n);
            self.succeeded = true;
            self.news = self.news.max(News::Successes);
        }
    }

    pub(super) fn record(&mut self, mark: Mark, now: Timestamp) {
        self.unreported.slide(now);
        self.unreported.record(mark);
        self.succeeded |= !mark.failed;
        if mark.failed || mark.slow {
            self.failing_since.get_or_insert(now);
            self.heed(News::Failures);
        } else {
            self.heed(News::Successes);
        }
    }

    pub(super) fn alarm(&mut self) {
        self.heed(News::Alarm);
    }

    pub(super) fn reshape(&mut self, policy: &Policy, now: Timestamp) {
        self.unreported = unreported(policy, now);
        (self.succeeded, self.news, self.failing_since) = (false, News::None, None);
    }

    fn heed(&mut self, news: News) {
        if news > self.news && news >= News::Failures {
            self.hurry();
        }
        self.news = self.news.max(news);
    }

    fn hurry(&mut self) {
        if self.ring == Ring::Silent {
            self.ring = Ring::Due;
        }
    }

    fn delta(&mut self, now: Timestamp) -> Delta {
        self.unreported.slide(now);
        let Tally { calls, failures, slow_calls, consecutive_failures: streak } =
            self.unreported.tally();
        Delta { calls, failures, slow_calls, streak, succeeded: self.succeeded }
    }

    /// The view as it would be told now.
    fn current(&self, now: Timestamp) -> View {
        let mut view = self.view.clone();
        let passed = now.since(self.at);
        if let Standing::Open { remaining, .. } = &mut view.standing {
            *remaining = remaining.saturating_sub(passed);
        }
        let remaining = view.imposed.setting.as_mut().and_then(|s| s.remaining.as_mut());
        if let Some(remaining) = remaining {
            *remaining = remaining.saturating_sub(now.since(self.imposed_at));
        }
        view
    }

    /// The ledger's state in this process's time.
    fn shared(&self) -> Shared {
        match self.view.standing {
            Standing::Closed => Shared::Closed,
            Standing::Open { opening, remaining } => {
                Shared::Open { until: self.at.after(remaining), reopenings: opening.reopenings }
            }
            Standing::HalfOpen { opening, passed, .. } => {
                Shared::HalfOpen { reopenings: opening.reopenings, passed }
            }
        }
    }
}

/// A transition, and a probe's end, as the cluster is to know of them.
impl Locked {
    pub(super) fn note(&mut self, transition: &Transition) {
        let opening = self.opening(transition.open_for.unwrap_or_default());
        let Some(member) = &mut self.member else { return };
        if member.view.standing != Standing::Closed || transition.origin != Origin::Local {
            return;
        }
        match transition.to {
            State::Open => {
                let Transition { reason, tally, .. } = *transition;
                member.trip = Some(Move::Open { opening, reason, tally });
                member.voted = false;
                member.hurry();
            }
            State::Closed => member.trip = None,
            _ => {}
        }
    }

    /// What an open phase of so long shall obey.
    fn opening(&self, interval: Duration) -> Opening {
        Opening {
            interval,
            reopenings: self.machine.reopenings(),
            probes: self.policy.probes(),
            lease: self.policy.probe_lease(),
            successes_to_close: self.policy.successes_to_close(),
        }
    }

    pub(super) fn settle(&mut self, lease: LeaseId, verdict: Verdict) {
        let reopenings = self.machine.reopenings().saturating_add(1);
        let probed = match verdict {
            Verdict::Passed => Probed::Passed,
            Verdict::Released => Probed::Released,
            Verdict::Failed { reason, hint } => {
                let interval = self.policy.open_interval(reopenings, hint, fastrand::u64(..));
                let opening = Opening { reopenings, ..self.opening(interval) };
                Probed::Failed { opening, reason }
            }
        };
        let Some(member) = &mut self.member else { return };
        let lease =
            Lease { generation: member.view.generation, nonce: lease.0, remaining: Duration::ZERO };
        member.settled.push(Settled { lease, probed, verdict });
        member.hurry();
    }
}

/// Telling.
impl Locked {
    /// Takes what the ledger is to be told, reports apart.
    pub(super) fn work(&mut self, now: Timestamp) -> Option<Work> {
        for lease in self.machine.run_out(now) {
            self.settle(lease, Verdict::Failed { reason: Reason::ProbeExpired, hint: None });
        }
        let next_expiry = self.machine.next_expiry();
        let quorum = self.policy.quorum();
        let member = self.member.as_mut()?;
        member.ring = Ring::Silent;
        let restore = take(&mut member.restore).then(|| member.current(now));
        // Alone, this replica's own evidence is enough.
        let own = member.trip.filter(|_| quorum == 1);
        let proposal = member.proposal.take().or(own);
        let vote = member.trip.is_some() && !member.voted && quorum > 1;
        Some(Work {
            settled: take(&mut member.settled),
            wish: member.wish.take(),
            restore,
            proposal: proposal.map(|to| (member.view.generation, to)),
            news: if vote { News::Alarm } else { member.news },
            failing_since: member.failing_since,
            next_expiry,
            closed: member.view.standing == Standing::Closed,
        })
    }

    /// A report. With `all` it takes what there is to report; without, it is of nothing.
    pub(super) fn draft(&mut self, all: bool, now: Timestamp) -> Option<Draft> {
        let window = Geometry::of(&self.policy);
        let votes = self.policy.quorum() > 1;
        let member = self.member.as_mut()?;
        let lasting = window.map_or(VOTE, |window| Duration::from_millis(window.millis));
        let mut draft = Draft {
            generation: member.view.generation,
            delta: Delta::default(),
            window,
            vote: member.trip.filter(|_| votes).map(|_| lasting),
            shares: votes,
        };
        if all {
            draft.delta = member.delta(now);
            member.voted = draft.vote.is_some();
            member.reshape(&self.policy, now);
        }
        Some(draft)
    }

    /// Takes back what could not be told.
    pub(super) fn untold(&mut self, work: Work) {
        let Some(member) = &mut self.member else { return };
        let generation = member.view.generation;
        let current = work.settled.into_iter().filter(|s| s.lease.generation == generation);
        member.settled.extend(current);
        // A newer wish, or proposal, has taken its place.
        member.wish = member.wish.take().or(work.wish);
        let proposal = work.proposal.filter(|(of, _)| *of == generation).map(|(_, to)| to);
        // What this replica's own evidence proposes is not forgotten by being taken.
        member.proposal = member.proposal.or(proposal.filter(|to| member.trip != Some(*to)));
        member.restore |= work.restore.is_some();
    }
}

/// Hearing.
impl Locked {
    /// Takes on what a view says that is newer than what is known.
    pub(super) fn adopt(&mut self, view: &View, answer: bool, now: Timestamp) {
        let by_hand = self.machine.state().is_by_hand();
        let Some(member) = &mut self.member else { return };
        member.known = true;
        let known = &member.view;
        let behind = view.rank() < known.rank() && known.generation > View::FIRST;
        if answer && (behind || view.imposed.version < known.imposed.version) {
            member.restore = true;
        }
        let newer = view.rank() > known.rank();
        let next = view.generation > known.generation;
        let hand = view.imposed.version > known.imposed.version;
        let same = view.standing.is_like(&known.standing);
        if newer {
            let imposed = take(&mut member.view.imposed);
            member.view = View { imposed, ..view.clone() };
            member.at = now;
        }
        if hand {
            member.view.imposed = view.imposed.clone();
            member.imposed_at = now;
        }
        if next {
            member.reshape(&self.policy, now);
            (member.trip, member.proposal, member.voted) = (None, None, false);
        }
        let setting = member.view.imposed.setting.clone();
        match setting {
            Some(setting) if hand => self.take_on(setting, now),
            None if hand && by_hand => self.follow(None, now),
            _ if by_hand => {}
            _ if next || newer && !same => self.follow(None, now),
            _ if newer => self.hear(Timestamp::default()),
            _ => {}
        }
    }

    /// Judges what all replicas have counted.
    pub(super) fn judge(&mut self, view: &View) {
        let Some(member) = &mut self.member else { return };
        let current = view.generation == member.view.generation
            && view.standing == Standing::Closed
            && member.view.standing == Standing::Closed;
        if !current || self.machine.state().is_by_hand() {
            return;
        }
        let policy = &self.policy;
        let elected = member.trip.filter(|_| view.votes >= policy.quorum());
        member.proposal = elected.or_else(|| {
            let reason = policy.judge_shared(view.tally, &view.shares)?;
            let interval = policy.open_interval(0, None, fastrand::u64(..));
            let opening = Opening {
                interval,
                reopenings: 0,
                probes: policy.probes(),
                lease: policy.probe_lease(),
                successes_to_close: policy.successes_to_close(),
            };
            Some(Move::Open { opening, reason, tally: view.tally })
        });
    }

    /// The ledger was asked for a lease, and gave none.
    pub(super) fn refused(&mut self, view: &View, now: Timestamp) {
        let Some(member) = &mut self.member else { return };
        if view.generation != member.view.generation || self.machine.state().is_by_hand() {
            return;
        }
        match view.standing {
            Standing::Open { .. } => {
                (member.view.standing, member.at) = (view.standing, now);
                self.hear(Timestamp::default());
            }
            Standing::HalfOpen { next_expiry, .. } => {
                let wait = next_expiry.unwrap_or_default().min(ASK_AGAIN);
                self.hear(now.after(wait));
            }
            Standing::Closed => {}
        }
    }

    /// The ledger was asked for a lease, and gave one. Unless it is to be kept for who comes next,
    /// it is granted at once. It has been running since some time after it was `asked` for.
    pub(super) fn give(&mut self, lease: Lease, keep: bool, asked: Timestamp) -> Option<Grant> {
        let id = LeaseId(lease.nonce);
        let member = self.member.as_mut()?;
        let current = member.view.generation == lease.generation;
        // The keeper is to look when the lease runs out.
        member.hurry();
        let ours = lease.remaining.saturating_sub((lease.remaining / 10).min(LEASE_MARGIN));
        if !current || !self.machine.give(id, asked.after(ours)) {
            // Of a round that is over; or of one in which a hand has stepped: the place is free
            // again when the lease runs out.
            return None;
        }
        (!keep && self.machine.claim(id)).then(|| Grant::probe(self.epoch, id))
    }

    /// Whether this is who may ask the ledger now: one at a time.
    pub(super) fn begin_asking(&mut self) -> Option<u64> {
        let asks = self.machine.asks();
        let member = self.member.as_mut()?;
        let free = asks && !member.asking;
        free.then(|| {
            member.asking = true;
            member.view.generation
        })
    }

    pub(super) fn end_asking(&mut self) {
        if let Some(member) = &mut self.member {
            member.asking = false;
        }
    }

    pub(super) fn is_asking(&self) -> bool {
        self.member.as_ref().is_some_and(|member| member.asking)
    }

    /// The generation that is known of the ledger.
    pub(super) fn shared_generation(&self) -> u64 {
        self.member.as_ref().map_or(View::FIRST, |member| member.view.generation)
    }
}

/// Lost and found.
impl Locked {
    /// The ledger cannot be reached: from here on this replica decides alone.
    pub(super) fn detach(&mut self, now: Timestamp) {
        let Some(member) = &mut self.member else { return };
        member.known = true;
        member.restore = false;
        if self.machine.ledger() == Ledger::Lost {
            return;
        }
        self.machine.set_ledger(Ledger::Lost);
        for settled in take(&mut member.settled) {
            let draw = fastrand::u64(..);
            let transition = self.machine.settle(settled.verdict, now, &self.policy, draw);
            self.happened(transition.map(Event::Transition));
        }
    }

    /// There is no ledger any more: from here on the circuit is this process's own.
    pub(super) fn leave(&mut self, now: Timestamp) {
        self.detach(now);
        self.machine.set_ledger(Ledger::None);
        self.member = None;
    }

    /// The ledger is back, and this is its view.
    pub(super) fn rejoin(&mut self, view: &View, now: Timestamp) {
        if self.machine.ledger() == Ledger::Lost {
            self.machine.set_ledger(Ledger::Reachable);
        }
        let Some(member) = &mut self.member else { return };
        let same = view.generation == member.view.generation;
        self.adopt(view, true, now);
        if same && !self.machine.state().is_by_hand() {
            self.reconcile(view, now);
        }
    }

    /// The ledger is where it was when it was lost, but this replica may have gone on.
    fn reconcile(&mut self, view: &View, now: Timestamp) {
        let Some(member) = &mut self.member else { return };
        let until = match view.standing {
            Standing::Closed => return,
            Standing::Open { remaining, .. } => now.after(remaining),
            Standing::HalfOpen { .. } => now,
        };
        match self.machine.state() {
            // Closed by its own probes.
            State::Closed if until <= now => {
                member.proposal = Some(Move::Closed { reason: Reason::ProbesSucceeded });
                member.hurry();
            }
            // Opened again by its own probes: the later end holds.
            State::Open => {
                let own = self.machine.rejects_until(&self.policy).unwrap_or(now);
                self.follow(Some(until.max(own)), now);
            }
            _ => self.follow(None, now),
        }
    }

    /// The time of the override in force is over.
    pub(super) fn end_override(&mut self, now: Timestamp) {
        if let Some(member) = &mut self.member {
            member.view.imposed.setting = None;
            member.view.reason = Some(Reason::OverrideOver);
            self.follow(None, now);
        } else {
            let closed = self.machine.reset(Reason::OverrideOver, &self.policy, now);
            self.happened(Some(Event::Transition(closed)));
        }
    }

    /// Goes to the ledger's state; if that is open, until another time than its own.
    fn follow(&mut self, until: Option<Timestamp>, now: Timestamp) {
        let Some(member) = &self.member else { return };
        let shared = match (member.shared(), until) {
            (Shared::Open { reopenings, .. }, Some(until)) => Shared::Open { until, reopenings },
            (shared, _) => shared,
        };
        let (generation, reason) = (member.view.generation, member.view.reason);
        let reason = reason.unwrap_or(Reason::ByHand);
        let transition = self.machine.adopt(shared, generation, reason, now, &self.policy);
        self.begin_phase(now);
        self.happened(transition.map(Event::Transition));
    }

    fn hear(&mut self, refused_until: Timestamp) {
        let Some(member) = &self.member else { return };
        self.machine.hear(member.shared(), refused_until);
    }

    /// Takes on what a hand has set on another replica.
    fn take_on(&mut self, setting: Setting, now: Timestamp) {
        let ours = self.setting.as_ref();
        let known = ours.is_some_and(|ours| {
            (ours.state, &ours.reason, &ours.actor)
                == (setting.state, &setting.reason, &setting.actor)
        });
        if !known {
            self.force(setting, Origin::Cluster, now);
        }
    }

    /// Sets a state by hand, here.
    pub(super) fn force(&mut self, setting: Setting, origin: Origin, now: Timestamp) {
        let ends = setting.remaining.map_or(Timestamp::NEVER, |lasting| now.after(lasting));
        let transition = self.machine.force(setting.state, origin, ends, &self.policy, now);
        self.happened(Some(Event::Transition(transition)));
        self.setting = Some(setting);
    }

    /// Remembers that a hand has set or ended a state here, and all are to know.
    pub(super) fn wish(&mut self, setting: Option<Setting>, now: Timestamp) -> Option<Told> {
        let member = self.member.as_mut()?;
        let (told, hears) = oneshot::channel();
        member.wish = Some(Wish { setting, at: now, told: Some(told) });
        (member.trip, member.proposal) = (None, None);
        member.hurry();
        Some(hears)
    }
}

impl Wish {
    /// What is to be set now; `None` if its time is over meanwhile.
    #[expect(clippy::option_option, reason = "the inner one is an end, as everywhere")]
    pub(crate) fn setting(&self, now: Timestamp) -> Option<Option<Setting>> {
        let Some(setting) = self.setting.clone() else { return Some(None) };
        let passed = now.since(self.at);
        let remaining = setting.remaining.map(|time| time.saturating_sub(passed));
        (remaining != Some(Duration::ZERO)).then_some(Some(Setting { remaining, ..setting }))
    }

    /// Says what has come of it, to who waits.
    pub(crate) fn tell(&mut self, result: Result<(), BackendError>) {
        if let Some(told) = self.told.take() {
            // Nobody has to wait for it.
            let _ = told.send(result);
        }
    }
}

/// Evidence of what is shared: a time window, and the streak. Other windows have no order over
/// replicas.
fn unreported(policy: &Policy, now: Timestamp) -> Evidence {
    let shape = match Geometry::of(policy) {
        Some(Geometry { millis, buckets }) => {
            Shape::Time { length: Duration::from_millis(millis), buckets }
        }
        None => Shape::None,
    };
    Evidence::new(shape, now)
}
