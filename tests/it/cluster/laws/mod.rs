//! The laws of `Backend`, and what else a replica relies on: the same tests for every backend.

mod fixtures;
#[cfg(feature = "redis")]
mod in_redis;
mod overrides;
mod probes;
mod records;
mod reports;
mod restores;

use std::sync::Arc;
use std::time::Duration;

use tower_breaker::backend::{Backend, MemoryBackend};

#[cfg(feature = "redis")]
use self::in_redis::InRedis;
#[cfg(feature = "redis")]
use crate::support::redis::real;
use crate::support::{advance, paused};

/// A backend under test, as two replicas reach it, and its time.
trait World {
    /// The connections of two replicas to the backend.
    fn replicas(&self) -> (Arc<dyn Backend>, Arc<dyn Backend>);

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
        an_absent_record_is_closed_and_only_a_report_creates_it
        the_loser_of_two_transitions_gets_the_view_of_the_winner
        a_circuit_is_open_for_as_long_as_the_backend_says
        an_operation_of_another_generation_changes_nothing
        generations_grow_even_after_the_record_was_deleted
        every_subscriber_receives_every_change
    }
    reports {
        a_report_that_is_sent_again_is_not_counted
        windows_slide_and_are_counted_separately
        a_success_ends_the_streak_unless_failures_follow_it
        shares_add_up_to_the_total
        votes_count_until_they_expire_or_are_withdrawn
    }
    probes {
        leases_are_limited_and_the_same_nonce_gets_the_same_lease
        an_unsettled_lease_frees_its_slot_when_it_expires
        a_failed_probe_ends_its_round
        enough_successful_probes_close_the_circuit
        a_released_probe_frees_its_slot_and_is_not_counted
    }
    restores {
        an_emptied_backend_takes_a_restored_view
        a_half_open_record_is_restored_as_open_with_its_interval_over
        a_restored_interval_is_not_longer_than_its_terms
    }
    overrides {
        an_override_expires_and_its_end_starts_a_generation
        an_override_outlives_the_record_and_the_newest_version_wins
    }
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
