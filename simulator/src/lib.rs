//! A deterministic cloud.
