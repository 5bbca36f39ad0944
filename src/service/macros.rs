//! The accessors that services of tower have: `get_ref`, `get_mut` and `into_inner`.

/// For a service with the field `inner: S`.
macro_rules! inner_accessors {
    () => {
        /// Returns the inner service.
        pub fn get_ref(&self) -> &S {
            &self.inner
        }

        /// Returns the inner service, mutably. No circuit sees a call that is made through it.
        pub fn get_mut(&mut self) -> &mut S {
            &mut self.inner
        }

        /// Returns the inner service. What this service had reserved is free again.
        pub fn into_inner(self) -> S {
            self.inner
        }
    };
}

pub(super) use inner_accessors;
