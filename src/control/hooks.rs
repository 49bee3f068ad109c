//! What other layers tell the control plane once they are up: the front door where it listens, the pool how far
//! provisioned concurrency is. Set once; until then there are defaults, and nothing here is stored.

use std::fmt;
use std::sync::OnceLock;

/// Instances that the pool made for a function's qualifier, and how many of those are ready.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Provisioned {
    pub allocated: u32,
    pub available: u32,
}

type ProvisionedState = Box<dyn Fn(&str, &str) -> (u32, u32) + Send + Sync>;

/// See the module's words.
#[derive(Default)]
pub struct Hooks {
    provisioned_state: OnceLock<ProvisionedState>,
    url_base: OnceLock<(String, u16)>,
}

impl Hooks {
    /// Where function URLs lead when nobody said so.
    const URL_BASE: (&str, u16) = ("http", 9330);

    /// Takes the pool's word on provisioned concurrency: of function and qualifier, (allocated, available). The first
    /// call counts.
    pub fn set_provisioned_state(
        &self,
        state: impl Fn(&str, &str) -> (u32, u32) + Send + Sync + 'static,
    ) {
        let _ = self.provisioned_state.set(Box::new(state)); // set already: the first one stays
    }

    /// Takes the scheme and port of function URLs. The first call counts.
    pub fn set_url_base(&self, scheme: impl Into<String>, port: u16) {
        let _ = self.url_base.set((scheme.into(), port)); // set already: the first one stays
    }

    pub(crate) fn provisioned(&self, function: &str, qualifier: &str) -> Provisioned {
        self.provisioned_state.get().map_or_else(Provisioned::default, |state| {
            let (allocated, available) = state(function, qualifier);
            Provisioned { allocated, available }
        })
    }

    /// Scheme and port.
    pub(crate) fn url_base(&self) -> (&str, u16) {
        self.url_base.get().map_or(Self::URL_BASE, |(scheme, port)| (scheme.as_str(), *port))
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks")
            .field("provisioned_state", &self.provisioned_state.get().is_some())
            .field("url_base", &self.url_base())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_first_stays() {
        let hooks = Hooks::default();
        assert_eq!(hooks.url_base(), ("http", 9330));
        assert_eq!(hooks.provisioned("f", "1"), Provisioned::default());
        hooks.set_url_base("https", 443);
        hooks.set_url_base("http", 1);
        assert_eq!(hooks.url_base(), ("https", 443));
        hooks.set_provisioned_state(|name, _| if name == "f" { (2, 1) } else { (0, 0) });
        assert_eq!(hooks.provisioned("f", "1"), Provisioned { allocated: 2, available: 1 });
        assert_eq!(hooks.provisioned("g", "1"), Provisioned::default());
    }
}
