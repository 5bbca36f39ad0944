//! Panics of user code that must not spread.

use std::any::Any;
use std::mem::forget;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `f`, which is user code. A panic ends here; the panic hook has reported it.
pub(crate) fn contain(f: impl FnOnce()) {
    let caught = |f: &mut dyn FnMut()| catch_unwind(AssertUnwindSafe(f)).err();
    let mut f = Some(f);
    let payload = caught(&mut || f.take().into_iter().for_each(|f| f()));
    // The payload is user code too, and may panic when it is dropped. The payload of that panic is
    // not dropped.
    let mut payload: Option<Box<dyn Any + Send>> = payload;
    if let Some(second) = caught(&mut || drop(payload.take())) {
        forget(second);
    }
}

#[cfg(all(test, not(breaker_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_payload_that_panics_when_dropped_is_contained() {
        struct Bomb;

        impl Drop for Bomb {
            fn drop(&mut self) {
                std::panic::panic_any(Self);
            }
        }

        contain(|| std::panic::panic_any(Bomb));
    }
}
