//! The laws of `Backend`, and what else a replica relies on: the same tests for every backend.

mod changes;
mod fixtures;
mod history;
mod in_memory;
#[cfg(feature = "redis")]
mod in_redis;
mod overrides;
mod probes;
mod records;
mod replicas;
mod reports;
mod restores;
mod rolls;

use std::sync::Arc;
use std::time::Duration;

use tower_breaker::backend::{Backend, MemoryBackend};

use self::fixtures::Replica;
#[cfg(feature = "redis")]
use self::in_redis::InRedis;
#[cfg(feature = "redis")]
use crate::support::redis::real;
use crate::support::{advance, paused};

/// A backend under test, as two replicas reach it, and its time.
trait World {
    /// The connections of two replicas to the backend.
    fn connections(&self) -> (Arc<dyn Backend>, Arc<dyn Backend>);

    fn replicas(&self) -> (Replica, Replica) {
        let (one, other) = self.connections();
        (Replica::new(one, "one"), Replica::new(other, "other"))
    }

    /// Deletes all records.
    async fn forget(&self);

    /// Lets this much of the backend's time pass.
    async fn wait(&self, time: Duration);
}

/// Defines a test of every law for every backend. Add yours here.
macro_rules! laws {
    ($($subject:ident { $($law:ident)* })*) => {
        mod memory {
            $($(#[test]
            fn $law() {
                super::paused(super::$subject::$law(super::InMemory::new()));
            })*)*
        }

        #[cfg(feature = "redis")]
        mod redis {
            $($(#[test]
            fn $law() {
                super::real(async {
                    super::$subject::$law(super::InRedis::on_one_server().await).await;
                });
            })*)*
        }

        /// Plays all laws on one backend, for those whose servers take a while to start.
        #[cfg(feature = "redis")]
        async fn every_law(world: impl Fn() -> InRedis) {
            $($($subject::$law(world()).await;)*)*
        }
    };
}

laws! {
    records {
        an_absent_record_is_closed_and_only_evidence_creates_it
        the_loser_of_two_transitions_gets_the_view_of_the_winner
        a_circuit_is_open_for_as_long_as_the_backend_says
        an_operation_of_another_generation_changes_nothing
        generations_grow_even_after_the_record_was_deleted
        a_plain_circuit_vanishes_and_leaves_no_record
        an_open_record_names_the_replicas_that_had_failed
        at_most_eight_contributors_are_named_the_last_first
        two_names_never_share_a_record
    }
    changes {
        every_subscriber_receives_every_change
        roll_calls_and_quiet_are_published
        a_sync_returns_every_change_after_its_cursor
        after_a_loss_a_sync_returns_all_that_there_is
        the_circuits_of_a_batch_are_returned_unchanged_too
        a_cursor_older_than_what_has_vanished_begins_again
        many_changes_come_in_pages
    }
    rolls {
        of_many_proposers_one_calls_the_roll
        a_roll_call_is_answered_by_batches_that_have_seen_it
        no_batch_answers_a_roll_call_before_it_is_called
        an_answer_to_one_roll_call_answers_all_before_it
        quiet_ends_a_roll_call_that_is_known
        a_transition_ends_a_roll_call
        failures_up_to_the_roll_call_are_counted_apart_from_later_ones
        failures_up_to_the_first_answer_count_with_the_roll_call
    }
    reports {
        a_batch_that_is_sent_again_adds_nothing
        evidence_counts_at_the_moment_it_is_from
        failures_older_than_the_window_add_nothing
        evidence_that_is_too_old_creates_no_record
        windows_slide_and_are_counted_separately
        a_success_ends_the_streak_of_all_but_not_failures_after_it
        a_streak_of_many_moments_is_never_longer_than_it_was
        shares_add_up_to_the_total
        votes_count_until_they_expire_or_are_withdrawn
        a_replica_that_restarts_again_and_again_is_one_voter
    }
    probes {
        leases_are_limited_and_the_same_nonce_gets_the_same_lease
        an_unsettled_lease_frees_its_slot_when_it_expires
        a_failed_probe_ends_its_round
        a_failed_probe_ends_its_round_even_if_its_lease_has_expired
        enough_successful_probes_close_the_circuit
        a_released_probe_frees_its_slot_and_is_not_counted
    }
    restores {
        an_emptied_backend_takes_a_restored_view
        a_half_open_record_is_restored_as_open_with_its_interval_over
        a_restored_interval_is_not_longer_than_its_terms
        a_view_from_a_day_ahead_is_refused
        a_restore_that_changes_nothing_is_not_published
    }
    overrides {
        an_override_lasts_until_it_expires_or_is_replaced
        clearing_an_override_leaves_the_record
        a_reset_clears_the_override_and_closes_the_circuit
        an_override_outlives_the_record_and_the_newest_version_wins
    }
    history {
        the_history_has_each_transition_and_the_evidence_of_a_trip
        the_history_names_who_overrode_the_circuit_and_why
        the_last_64_transitions_are_kept
        of_a_circuit_of_a_key_the_last_8_transitions_are_kept
        an_override_whose_time_ends_has_one_entry_at_its_end
        the_end_of_an_override_is_not_lost_when_the_circuit_goes_on
        what_changes_no_state_is_not_noted
        a_restored_record_is_noted
    }
    replicas {
        heartbeats_count_live_replicas
        heartbeats_say_that_the_cluster_is_watched
        heartbeats_say_what_the_others_have_seen
        what_a_replica_publishes_reaches_every_subscriber
    }
}

struct InMemory(Arc<MemoryBackend>);

impl InMemory {
    fn new() -> Self {
        Self(Arc::new(MemoryBackend::new()))
    }
}

impl World for InMemory {
    fn connections(&self) -> (Arc<dyn Backend>, Arc<dyn Backend>) {
        (self.0.clone(), self.0.clone())
    }

    async fn forget(&self) {
        self.0.forget();
    }

    async fn wait(&self, time: Duration) {
        advance(time).await;
    }
}
