//! What takes long in full: small here, in full by the commands in CONTRIBUTING.md.

mod fair;
mod killed;
