//! Certificate failures in words for a person.

use std::io;
use std::time::Duration;

use rustls::pki_types::UnixTime;
use rustls::{CertificateError, Error};

use super::unknown_issuer::UnknownIssuer;

/// The name of every CA for development begins with this.
pub(super) const DEVELOPMENT_CA: &str = "ptth development CA ";

/// The defect of the relay's certificate and the remedy, in one sentence; `None` for another kind of failure.
pub fn explain(error: &Error) -> Option<String> {
    let Error::InvalidCertificate(error) = error else { return None };
    Some(match error {
        CertificateError::ExpiredContext { time, not_after } => {
            format!("its certificate expired {} ago; renew it on the relay", span(*time, *not_after))
        }
        CertificateError::Expired => "its certificate has expired; renew it on the relay".into(),
        CertificateError::NotValidYetContext { time, not_before } => format!(
            "its certificate becomes valid in {}; check this machine's clock",
            span(*not_before, *time)
        ),
        CertificateError::NotValidYet => "its certificate is not valid yet; check this machine's clock".into(),
        CertificateError::NotValidForNameContext { expected, presented } => format!(
            "its certificate is not valid for {} but for {}; use one of these in --relay, or renew it with that host",
            expected.to_str(),
            hosts(presented),
        ),
        CertificateError::NotValidForName => {
            "its certificate is not valid for this host; check --relay, or renew it with that host".into()
        }
        CertificateError::UnknownIssuer => {
            "its certificate is from an issuer that is not trusted here; pass --ca FILE if the relay has a private CA"
                .into()
        }
        CertificateError::BadSignature => {
            "its certificate is not signed by the CA it names; check that --ca FILE is for this relay".into()
        }
        CertificateError::Revoked => "its certificate was revoked; renew it on the relay".into(),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "its certificate is not for servers; the relay needs one for server authentication".into()
        }
        CertificateError::Other(other) if let Some(unknown) = other.0.downcast_ref() => untrusted(unknown),
        other => format!("its certificate does not verify ({other}); check the relay's --cert and the agent's --ca"),
    })
}

/// As [`explain`], for the error that an asynchronous handshake gives.
pub fn explain_io(error: &io::Error) -> Option<String> {
    error.get_ref()?.downcast_ref::<Error>().and_then(explain)
}

/// A certificate of an unknown issuer. For the right host the cause is TLS inspection or a private CA. For another
/// host, another server answers in the relay's place.
fn untrusted(unknown: &UnknownIssuer) -> String {
    if !unknown.is_for_host {
        return format!(
            "{unknown}, and it is for another host: another server answers in the relay's place; check \
             --relay, and whether this network requires a login in a browser first"
        );
    }
    if unknown.issuer.starts_with(DEVELOPMENT_CA) {
        return format!("{unknown}; pass --ca FILE with the ca.pem that was made together with it");
    }
    format!(
        "{unknown}: something on the way intercepts TLS, or the relay has a CA of its own; if that is your \
         company's inspection, or your relay's CA, pass its root with --ca FILE"
    )
}

/// The hosts of a certificate, which rustls gives as `DnsName("example.org")` and `IpAddress(192.0.2.1)`.
fn hosts(presented: &[String]) -> String {
    let bare = |host: &String| {
        let inner = host.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(host);
        inner.trim_matches('"').to_owned()
    };
    let all: Vec<String> = presented.iter().map(bare).collect();
    if all.is_empty() { "no host".into() } else { all.join(", ") }
}

/// The time from `earlier` to `later`, in words for a person.
fn span(later: UnixTime, earlier: UnixTime) -> String {
    let seconds = Duration::from_secs(later.as_secs().saturating_sub(earlier.as_secs())).as_secs();
    match seconds {
        0..120 => format!("{seconds} seconds"),
        120..7200 => format!("{} minutes", seconds / 60),
        7200..172_800 => format!("{} hours", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_certificate_errors_are_explained() {
        assert_eq!(explain(&Error::DecryptError), None);
        assert_eq!(explain_io(&io::Error::other("reset")), None);
        let inner = Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let text = explain_io(&io::Error::new(io::ErrorKind::InvalidData, inner)).unwrap();
        assert!(text.contains("--ca FILE"), "{text}");
    }

    #[test]
    fn an_untrusted_issuer_is_named() {
        let text =
            |issuer: &str, is_for_host| untrusted(&UnknownIssuer { issuer: issuer.into(), is_for_host });
        let inspected = text("Corp \"x\" CA", true);
        assert!(
            inspected.starts_with(r#"it was issued by "Corp \"x\" CA", an issuer that is not"#),
            "{inspected}"
        );
        assert!(inspected.contains("something on the way intercepts TLS") && inspected.contains("--ca FILE"));
        assert!(text("Hotel", false).contains("another server answers"));
        let development = text("ptth development CA 00c0ffee", true);
        assert!(development.contains("ca.pem") && !development.contains("intercepts TLS"), "{development}");
    }

    #[test]
    fn an_age_is_printed_in_a_fitting_unit() {
        let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        assert_eq!(span(at(100), at(1)), "99 seconds");
        assert_eq!(span(at(600), at(0)), "10 minutes");
        assert_eq!(span(at(3 * 3600), at(0)), "3 hours");
        assert_eq!(span(at(90 * 86_400), at(0)), "90 days");
        assert_eq!(span(at(0), at(90)), "0 seconds");
    }
}
