//! When a circuit opens and how it closes: the settings that belong to [`Policy`].
//!
//! [`Policy::builder`] returns a [`PolicyBuilder`], which checks all settings when it builds.

mod builder;
pub(crate) mod check;
mod fraction;
mod preset;
mod read;
pub(crate) mod settings;
mod window;

pub use builder::PolicyBuilder;
pub(crate) use fraction::WHOLE;
pub use settings::Cancelled;
pub(crate) use settings::Policy;
pub use window::Window;
