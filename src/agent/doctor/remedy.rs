//! Describes each fault of a connection to a relay, and the remedy.

use crate::net::dial::DialError;
use crate::tls;
use crate::transport::OpenError;

/// Why a step failed.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Trouble {
    /// The fault.
    pub(super) fault: String,
    /// The remedy.
    pub(super) remedy: String,
    /// The relay refused the token, or the routes requested with it.
    pub(super) refused: bool,
    /// Upgrades are blocked; ordinary requests may still pass.
    pub(super) blocked: bool,
}

impl Trouble {
    fn new(fault: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { fault: fault.into(), remedy: remedy.into(), ..Self::default() }
    }
}

pub(super) fn of_dial(error: &DialError) -> Trouble {
    let fault = error.to_string();
    match error {
        DialError::Resolve { .. } => Trouble::new(
            fault,
            "check the host in --relay, and the DNS of this machine; if only a proxy resolves names, set it \
             with --proxy",
        ),
        DialError::Connect { .. } | DialError::Timeout { .. } => Trouble::new(
            fault,
            "check that the relay runs and that the firewall allows connections to its port; in a company \
             network, set the proxy with --proxy or HTTPS_PROXY",
        ),
        DialError::Proxy(error) => Trouble::new(error.failure(), error.remedy()),
        DialError::Tls { target, source } => match tls::explain_io(source) {
            // Each explanation ends with its remedy.
            Some(why) => {
                let (fault, remedy) =
                    why.rsplit_once("; ").unwrap_or((&why, "renew the relay's certificate"));
                Trouble::new(format!("the certificate of {target} is not accepted: {fault}"), remedy)
            }
            None => Trouble::new(
                fault,
                format!("check that {target} is the relay's TLS port, and not that of another service"),
            ),
        },
    }
}

pub(super) fn of_open(error: &OpenError) -> Trouble {
    match error {
        OpenError::Dial(error) => of_dial(error),
        OpenError::Refused { status, message, .. } => {
            let (remedy, refused) = match status.as_u16() {
                401 => ("make a token with ptth token new on the relay, and set it with --token-file", true),
                403 => ("try another --name, or a token that may claim this name", true),
                400 | 406 => ("set --name to a name that the token allows", false),
                _ => ("try again in a moment, and check the log of the relay", false),
            };
            let fault = format!("the relay refuses: {message} ({})", status.as_u16());
            Trouble { refused, ..Trouble::new(fault, remedy) }
        }
        OpenError::Absent { .. } => blocked(
            error,
            "check that --relay is the address of a ptth relay; if it is, let the proxies in between pass \
             Upgrade",
        ),
        OpenError::NotHttp => Trouble::new(
            "the answer is not HTTP",
            "if this is the port for TLS, write https:// in --relay, or else check the port",
        ),
        OpenError::Broken(_) => blocked(
            error,
            "try again; if the error persists, something in between cuts connections that request an Upgrade",
        ),
    }
}

fn blocked(error: &OpenError, remedy: &str) -> Trouble {
    Trouble { blocked: true, ..Trouble::new(error.to_string(), remedy) }
}

/// The remedy when Upgrades are blocked and polls work.
pub(super) fn poll_remedy() -> String {
    "no action is needed: an agent serves from here by long poll; for more speed, let the proxies in between \
     pass Upgrade"
        .to_owned()
}
