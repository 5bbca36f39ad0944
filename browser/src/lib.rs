//! Nothing. The package has tests only.
