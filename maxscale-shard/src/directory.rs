//! Under which hash something is looked up by its value, which is kept nowhere.

use maxscale_core::keys::KeyRing;

/// The key's version, then the MAC: rows of different keys never meet. Where it
/// lies, [`Router::directory`](crate::Router::directory) says.
pub(crate) fn hash(keys: &KeyRing, version: u8, purpose: &str, value: &str) -> Vec<u8> {
    let tag = keys.mac(version, purpose, value.as_bytes());
    let mut hash = vec![version];
    hash.extend(tag.unwrap_or_default());
    hash
}
