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
        absent_is_closed_and_only_a_report_makes_a_record
        of_two_transitions_one_wins_and_the_other_is_told
        an_open_circuit_stays_so_for_as_long_as_the_ledger_says
        what_bears_another_generation_changes_nothing
        generations_grow_even_if_the_record_was_lost
        what_happens_is_told_to_all
    }
    reports {
        a_report_that_is_sent_again_adds_nothing
        a_window_slides_and_windows_are_counted_apart
        a_success_ends_the_streak_unless_failures_came_after_it
        shares_add_up_to_the_total
        votes_count_until_they_run_out_or_are_withdrawn
    }
    probes {
        leases_are_few_and_the_same_nonce_gets_the_same
        a_lease_that_nobody_settles_is_free_again_after_its_length
        a_failed_probe_ends_its_round
        enough_good_probes_close_the_circuit
        a_released_probe_frees_its_place_and_passes_nothing
    }
    restores {
        a_ledger_that_has_forgotten_is_told
        what_is_half_open_is_restored_as_open_and_over
        a_restored_interval_is_not_longer_than_it_was
    }
    overrides {
        a_setting_lasts_for_as_long_as_it_says_and_ends_in_a_new_generation
        a_setting_outlives_the_record_and_is_restored_by_its_version
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
