//! Nothing: this package exists for its manifest.
