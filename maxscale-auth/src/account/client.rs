use std::fmt;

use maxscale_core::keys::{KeyError, KeyRing, Secret};

use crate::email::Email;
use crate::principal::Principal;
use crate::signed::Signed;

/// Who asks, as far as a flow must know it.
#[derive(Clone, Copy)]
#[must_use]
pub struct Client<'a> {
    pub(crate) address: &'a str,
    pub(super) device: Option<&'a str>,
    pub(crate) agent: &'a str,
    pub(crate) session: Option<&'a Principal>,
}

/// The text of a device cookie: `mxd_` and 50 bytes in base64url.
///
/// It says that somebody logged in to one account on this device, and is bound to the
/// address that he typed there, without holding it. A device with one has attempts of
/// its own, so that nobody who guesses elsewhere locks it out. It logs nobody in.
pub(super) struct Device([u8; 32]);

const FORM: Signed = Signed {
    prefix: "mxd_",
    purpose: "device",
    format: 1,
};

// === impl Client ===

impl<'a> Client<'a> {
    /// A client at `address`, which must be one that it cannot choose: as
    /// [`ByClientIp`](maxscale_core::limit::ByClientIp) names it.
    pub const fn new(address: &'a str) -> Self {
        Self {
            address,
            device: None,
            agent: "",
            session: None,
        }
    }

    /// With the text of the device cookie that it brought: [`LoggedIn::device`](super::LoggedIn).
    pub const fn device(mut self, text: Option<&'a str>) -> Self {
        self.device = text;
        self
    }

    /// With how its device calls itself, for its user to recognise it in a list.
    pub const fn agent(mut self, agent: &'a str) -> Self {
        self.agent = agent;
        self
    }

    /// With the session that it brought; it ends when another one begins.
    pub const fn session(mut self, session: Option<&'a Principal>) -> Self {
        self.session = session;
        self
    }

    /// The device that it is known as where `email` was typed, if it is.
    pub(super) fn known_device(&self, email: &Email, keys: &KeyRing) -> Option<Device> {
        let body = FORM.read(keys, self.device?, email.as_str().as_bytes())?;
        Some(Device(body))
    }

    /// How attempts name it.
    pub(super) fn name(&self, email: &Email, keys: &KeyRing) -> String {
        match self.known_device(email, keys) {
            Some(device) => device.name(),
            None => self.address.to_owned(),
        }
    }
}

impl fmt::Debug for Client<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

// === impl Device ===

impl Device {
    pub(super) fn draw() -> Result<Self, KeyError> {
        Secret::random().map(Self)
    }

    pub(super) fn text(&self, email: &Email, keys: &KeyRing) -> String {
        FORM.write(keys, &self.0, email.as_str().as_bytes())
    }

    /// How attempts name it.
    pub(super) fn name(&self) -> String {
        let hex: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("device:{hex}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_is_known_only_where_it_logged_in() {
        let keys = KeyRing::new(1, Secret::new([7; 32])).unwrap();
        let (ada, eve) = (
            Email::parse("ada@a.b").unwrap(),
            Email::parse("eve@a.b").unwrap(),
        );
        let text = Device::draw().unwrap().text(&ada, &keys);
        let client = Client::new("10.0.0.1").device(Some(&text));

        let name = client.name(&ada, &keys);
        assert!(name.starts_with("device:"), "{name}");
        assert_eq!(name, client.name(&ada, &keys));
        assert_eq!(client.name(&eve, &keys), "10.0.0.1");
        let forged = text.replace("mxd_A", "mxd_B");
        let forged = Client::new("10.0.0.1").device(Some(&forged));
        assert_eq!(forged.name(&ada, &keys), "10.0.0.1");
    }
}
