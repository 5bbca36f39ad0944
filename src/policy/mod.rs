//! When a circuit opens and how it closes: the settings that belong to [`Policy`].
//!
//! [`Policy::builder`] returns a [`PolicyBuilder`], which checks all settings when it builds.

mod builder;
pub(crate) mod check;
#[cfg(feature = "serde")]
mod data;
mod fraction;
mod nearest;
mod patch;
mod preset;
mod read;
mod setting;
pub(crate) mod settings;
mod window;

pub use builder::PolicyBuilder;
#[cfg(feature = "serde")]
pub(crate) use data::{Raw, unknown};
pub(crate) use fraction::WHOLE;
pub(crate) use nearest::nearest;
pub use patch::PolicySettings;
pub(crate) use setting::Setting;
pub use settings::Cancelled;
pub(crate) use settings::Policy;
pub use window::Window;
