//! The task that keeps one circuit in agreement with the ledger.

mod alone;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use super::peer::Peer;
use super::{Life, Replica};
use crate::backend::{Answer, BackendError, Report};
use crate::circuit::{Circuit, Counted, Draft, Heard, News, Work};
use crate::clock;
use crate::event::BackendStatus;
use crate::timestamp::Timestamp;

/// How long a circuit without traffic is left alone before it is looked at again. Only successes wait
/// for that; whatever else happens wakes the keeper.
const LONGEST_LOOK: Duration = Duration::from_secs(1);

/// How often a circuit of which nothing is heard is loaded, in case a message was lost. Drawn anew
/// each time, from half of it to once and a half.
const POLL_CLOSED: Duration = Duration::from_secs(10);
/// The same, while calls are rejected.
const POLL_OPEN: Duration = Duration::from_secs(1);

pub(super) struct Keeper {
    peer: Arc<Peer>,
    circuit: Circuit,
    status: watch::Receiver<BackendStatus>,
    life: watch::Receiver<Life>,
    /// Whether the circuit decides alone for now.
    alone: bool,
    /// Whether the ledger has refused this circuit, and that was told.
    refused: bool,
    /// A report that may not have arrived, and when it was made.
    unanswered: Option<(Report, Timestamp)>,
    reported: Timestamp,
    /// When the next report that can wait has its turn.
    turn: Option<Timestamp>,
    /// When the ledger last said where the circuit is, and how much longer or shorter than usual it
    /// is left alone this time.
    heard: Timestamp,
    spread: f64,
    /// Alone, when it tries again.
    retry: Timestamp,
    look: Duration,
}

/// When the keeper is to look again.
enum Next {
    Now,
    At(Timestamp),
    /// When it is woken.
    Woken,
    End,
}

impl Keeper {
    pub(super) fn new(peer: Arc<Peer>, circuit: Circuit) -> Self {
        let replica = &peer.replica;
        replica.keepers.send_modify(|keepers| *keepers += 1);
        Self {
            status: replica.status.subscribe(),
            life: replica.life.subscribe(),
            alone: true,
            refused: false,
            unanswered: None,
            reported: clock::now(),
            turn: None,
            heard: Timestamp::default(),
            spread: 1.0,
            retry: Timestamp::default(),
            look: replica.settings.report_interval,
            peer,
            circuit,
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            let next = self.step().await;
            let wait = match next {
                Next::Now => continue,
                Next::End => return,
                Next::At(at) => at.since(clock::now()),
                Next::Woken => LONGEST_LOOK,
            };
            let peer = self.peer.clone();
            tokio::select! {
                biased;
                () = peer.woken.notified() => {}
                _ = self.status.changed() => {}
                _ = self.life.changed() => {}
                () = sleep(wait) => {}
            }
        }
    }

    /// Does the next thing that is due.
    async fn step(&mut self) -> Next {
        let life = *self.life.borrow_and_update();
        let ends = match life {
            Life::Running => self.peer.is_let_go() && self.circuit.is_last(),
            Life::Orphaned => self.circuit.is_last(),
            Life::ShuttingDown => true,
        };
        if ends {
            self.finish().await;
            return Next::End;
        }
        self.look_at_ledger();
        if self.status.borrow().is_degraded() {
            return Next::Woken;
        }
        self.hear();
        if self.alone {
            return self.join_when_due().await;
        }
        let Some(work) = self.circuit.work() else { return Next::End };
        if !work.is_empty() {
            self.tell(work).await
        } else if self.peer.is_to_load() {
            self.load().await
        } else {
            self.report_or_poll(&work).await
        }
    }

    fn hear(&self) {
        for view in self.peer.heard() {
            self.circuit.adopt(&view, Heard::Pushed);
        }
    }

    async fn load(&mut self) -> Next {
        let (peer, name) = (self.peer.clone(), self.circuit.name().clone());
        match self.ask(peer.replica.backend.load(&name)).await {
            Ok(view) => {
                self.circuit.adopt(&view, Heard::Answered);
                self.heard_from();
                Next::Now
            }
            Err(error) => {
                self.peer.load_later();
                self.gone(&error)
            }
        }
    }

    /// Tells what cannot wait, in an order in which nothing contradicts what was told before.
    async fn tell(&mut self, mut work: Work) -> Next {
        match self.tell_each(&mut work).await {
            Ok(()) => Next::Now,
            Err(error) => {
                if let Some(wish) = &mut work.wish {
                    wish.tell(Err(error.clone()));
                }
                self.circuit.untold(work);
                self.gone(&error)
            }
        }
    }

    async fn tell_each(&mut self, work: &mut Work) -> Result<(), BackendError> {
        let (peer, name) = (self.peer.clone(), self.circuit.name().clone());
        let backend = &peer.replica.backend;
        if let Some(view) = &work.restore {
            let view = self.ask(backend.restore(&name, view)).await?;
            work.restore = None;
            self.circuit.adopt(&view, Heard::Answered);
        }
        while let Some(settled) = work.settled.first() {
            let answer = backend.settle_probe(&name, settled.lease, &settled.probed);
            let view = self.ask(answer).await?;
            work.settled.remove(0);
            self.circuit.adopt(&view, Heard::Answered);
        }
        if let Some(wish) = &mut work.wish {
            let setting = wish.setting(clock::now());
            let view = self.ask(backend.set_override(&name, setting.as_ref())).await?;
            self.circuit.imposed(&view);
            wish.tell(Ok(()));
            work.wish = None;
        }
        if let Some((from, to)) = work.proposal {
            let view = self.ask(backend.transition(&name, from, &to)).await?;
            work.proposal = None;
            self.circuit.adopt(&view, Heard::Answered);
        }
        Ok(())
    }

    async fn report_or_poll(&mut self, work: &Work) -> Next {
        let now = clock::now();
        let interval = self.peer.replica.settings.report_interval;
        let soonest = self.reported.after(interval);
        let news = if self.unanswered.is_some() { News::Failures } else { News::None };
        let due = match work.news.max(news) {
            News::Alarm => Some(now),
            // Not at once: a report that a failure sets off always ends in one, and then a few
            // failures among many successes, told by many replicas, would look like a streak.
            News::Failures => {
                let told = work.failing_since.map(|since| since.after(interval));
                Some(told.map_or(soonest, |told| told.max(soonest)))
            }
            News::Successes => {
                let turn = *self.turn.get_or_insert_with(|| self.peer.replica.budget.turn(now));
                Some(soonest.max(turn))
            }
            News::None => None,
        };
        self.look = if due.is_some() { interval } else { (self.look * 2).min(LONGEST_LOOK) };
        if due.is_some_and(|due| due <= now) {
            return self.report().await;
        }
        let usual = if work.closed { POLL_CLOSED } else { POLL_OPEN };
        let mut poll = self.heard.after(usual.mul_f64(self.spread));
        if poll <= now {
            // Until it has its turn, nothing else is to be late for it.
            poll = *self.turn.get_or_insert_with(|| self.peer.replica.budget.turn(now));
            if poll <= now {
                self.turn = None;
                return if work.closed { self.look_at_totals().await } else { self.load().await };
            }
        }
        let look = now.after(self.look);
        let times = [due, work.next_expiry, Some(poll), Some(look)];
        Next::At(times.into_iter().flatten().min().unwrap_or(look))
    }

    async fn report(&mut self) -> Next {
        self.turn = None;
        self.reported = clock::now();
        let (report, made) = match self.unanswered.take().filter(is_of_use) {
            Some(last) => last,
            None => match self.circuit.draft(Counted::All) {
                Some(draft) => {
                    let seq = self.peer.replica.seq.fetch_add(1, Ordering::Relaxed);
                    (self.sign(draft, seq), clock::now())
                }
                None => return Next::End,
            },
        };
        let result = self.send(&report).await;
        if result.is_err() {
            self.unanswered = Some((report, made));
        }
        result.map_or_else(|error| self.gone(&error), |()| Next::Now)
    }

    /// A report of nothing: what comes back are the totals.
    async fn look_at_totals(&mut self) -> Next {
        let Some(draft) = self.circuit.draft(Counted::Nothing) else { return Next::End };
        let report = self.sign(draft, 0);
        self.send(&report).await.map_or_else(|error| self.gone(&error), |()| Next::Now)
    }

    async fn send(&mut self, report: &Report) -> Result<(), BackendError> {
        let (peer, name) = (self.peer.clone(), self.circuit.name().clone());
        let view = self.ask(peer.replica.backend.report(&name, report)).await?;
        self.circuit.judge(&view);
        self.heard_from();
        Ok(())
    }

    fn sign(&self, draft: Draft, seq: u64) -> Report {
        let Draft { generation, delta, window, vote, shares } = draft;
        let replica = self.peer.replica.id.clone();
        Report { replica, seq, generation, delta, window, vote, shares }
    }

    /// Waits for an answer, and goes on hearing meanwhile.
    async fn ask<T>(&self, answer: Answer<'_, T>) -> Result<T, BackendError> {
        let replica: &Replica = &self.peer.replica;
        let mut answer = std::pin::pin!(replica.ask_in_turn(answer));
        loop {
            tokio::select! {
                biased;
                answer = &mut answer => {
                    return match answer {
                        Some(answer) => {
                            self.peer.count(&answer);
                            answer
                        }
                        None => Err(BackendError::unavailable("too many circuits ask at once")),
                    };
                }
                // Whatever else it was woken for is looked at after this.
                () = self.peer.woken.notified() => self.hear(),
            }
        }
    }

    fn heard_from(&mut self) {
        self.refused = false;
        self.heard = clock::now();
        self.spread = 0.5 + fastrand::f64();
    }

    /// Tells what is still to be told, once.
    async fn finish(&mut self) {
        let Some(mut work) = self.circuit.work() else { return };
        let lost = self.alone || self.status.borrow().is_degraded();
        let told = if lost { work.is_empty() } else { self.tell_each(&mut work).await.is_ok() };
        let reports = work.news > News::None || self.unanswered.is_some();
        if told && reports && !lost {
            self.report().await;
        }
        if !told || reports && (lost || self.unanswered.is_some()) {
            self.peer.replica.leave_untold();
        }
    }
}

/// Whether a report of a while ago is still evidence.
fn is_of_use((report, made): &(Report, Timestamp)) -> bool {
    let window = report.window.map(|window| Duration::from_millis(window.millis));
    window.is_none_or(|window| clock::now().since(*made) < window)
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let replica = &self.peer.replica;
        replica.peers.remove_if(&self.peer.name, |_, peer| Arc::ptr_eq(peer, &self.peer));
        self.circuit.leave();
        self.peer.known.send_replace(true);
        replica.keepers.send_modify(|keepers| *keepers -= 1);
    }
}
