//! What the two service types have in common.

/// Adds `get_ref`, `get_mut` and `into_inner` to a service with the field `inner: S`.
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

/// Defines the future of a service, around an enum `Step` of its module, and how it is polled.
macro_rules! response_future {
    ($(#[$doc:meta])* $name:ident, |$future:ident, $cx:ident| $poll:expr) => {
        pin_project_lite::pin_project! {
            $(#[$doc])*
            #[must_use = "futures do nothing unless polled"]
            pub struct $name<S, R, C, M, U>
            where
                S: Service<R>,
                M: OnRejected<R, S::Response, S::Error>,
            {
                #[pin]
                step: Step<S, R, C, M, U>,
            }
        }

        impl<S, R, C, M, U> Future for $name<S, R, C, M, U>
        where
            S: Service<R>,
            C: Classify<S::Response, S::Error>,
            M: OnRejected<R, S::Response, S::Error>,
            U: Until<R, S::Response>,
        {
            type Output = Result<U::Response, M::Error>;

            #[inline]
            fn poll(self: Pin<&mut Self>, $cx: &mut Context<'_>) -> Poll<Self::Output> {
                let $future = self;
                $poll
            }
        }

        impl<S, R, C, M, U> std::fmt::Debug for $name<S, R, C, M, U>
        where
            S: Service<R>,
            M: OnRejected<R, S::Response, S::Error>,
        {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        }
    };
}

pub(super) use {inner_accessors, response_future};
