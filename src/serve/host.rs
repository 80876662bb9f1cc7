//! By which name the server is asked. A page of another site can have its own name lead to this machine, and is then
//! let by the browser to ask here what it likes; what gives it away is that name, which stands in each request.

use std::net::IpAddr;

/// The names that requests may be for.
#[derive(Clone, Debug)]
pub struct Hosts {
    /// Of a server that others reach: any.
    any: bool,
    /// The name that it listens on.
    own: String,
}

impl Hosts {
    /// Those of a server that listens on `own`, an address of this machine alone if `local`. One that listens to other
    /// machines is asked by whatever name these know it by.
    pub fn new(own: &str, local: bool) -> Hosts {
        Hosts { any: !local, own: own.to_owned() }
    }

    /// Whether a request may be for `authority`, a name or an address with perhaps a port: an address by its number,
    /// `localhost`, or the name that it listens on.
    pub fn allow(&self, authority: &str) -> bool {
        let name = match authority.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or_default(),
            None => authority.rsplit_once(':').map_or(authority, |(name, _)| name),
        };
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let local = name == "localhost" || name.ends_with(".localhost");
        self.any || local || name.parse::<IpAddr>().is_ok() || name.eq_ignore_ascii_case(&self.own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_names_of_this_machine_are_allowed_and_no_others() {
        let hosts = Hosts::new("Box", true);
        for name in
            ["127.0.0.1:8000", "10.0.0.7", "[::1]:8000", "[::1]", "localhost", "LOCALHOST:1", "a.localhost", "box:8"]
        {
            assert!(hosts.allow(name), "{name}");
        }
        for name in
            ["evil.example", "evil.example:8000", "", "localhost.evil.example", "127.0.0.1.evil.example", "[evil]"]
        {
            assert!(!hosts.allow(name), "{name}");
        }
        assert!(Hosts::new("0.0.0.0", false).allow("box.lan:8000"));
    }
}
