//! Copies of what cannot be cloned, because a task may wait for it.

use tokio::sync::oneshot;

use crate::sync::circuit::{Change, CircuitSync, Command, Outbox};

/// Returns a copy of a reducer. Those who await an override wait for the original alone.
pub(super) fn reducer(sync: &CircuitSync) -> CircuitSync {
    CircuitSync {
        state: sync.state.clone(),
        known: sync.known.clone(),
        hint: sync.hint.clone(),
        followed: sync.followed.clone(),
        unreported: sync.unreported.clone(),
        trip: sync.trip.clone(),
        outbox: outbox(&sync.outbox),
        ..*sync
    }
}

fn outbox(outbox: &Outbox) -> Outbox {
    Outbox {
        settled: outbox.settled.clone(),
        proposal: outbox.proposal.clone(),
        change: outbox.change.as_ref().map(change),
        ..*outbox
    }
}

fn change(change: &Change) -> Change {
    let waiter = change.waiter.as_ref().map(|_| oneshot::channel().0);
    let overtakes = change.overtakes.clone();
    Change { change: change.change.clone(), overtakes, waiter, ..*change }
}

pub(super) fn command(command: &Command) -> Command {
    match command {
        Command::Restore(view) => Command::Restore(view.clone()),
        Command::Settle(settled) => Command::Settle(settled.clone()),
        Command::Override(change) => Command::Override(change.clone()),
        Command::Transition { from, to } => Command::Transition { from: *from, to: to.clone() },
    }
}
