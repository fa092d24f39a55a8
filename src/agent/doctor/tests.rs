use http::StatusCode;

use super::*;
use crate::agent::origin::OriginTarget;

#[test]
fn a_refusal_is_distinguished_from_a_fault() {
    let refused = |status: u16| {
        let status = StatusCode::from_u16(status).unwrap();
        of_open(&OpenError::Refused { status, message: "no".into(), retry_after: None })
    };
    for (status, is) in [(401, true), (403, true), (400, false), (406, false), (429, false), (503, false)] {
        let trouble = refused(status);
        assert_eq!(trouble.refused, is, "{status}");
        assert!(trouble.fault.contains(&status.to_string()) && !trouble.remedy.is_empty());
    }
}

#[tokio::test]
async fn a_closed_port_skips_the_steps_after_tcp() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = closed.local_addr().unwrap();
    drop(closed);
    let exam = Exam {
        relay: format!("https://{address}").parse().unwrap(),
        proxies: Proxies::None,
        tls: crate::tls::client_config_for_none().unwrap(),
        token: None,
        wanted: Vec::new(),
        suggested: None,
        target: Some(OriginConfig::new(OriginTarget::Directory("/nonexistent".into()))),
    };
    let mut findings = Vec::new();
    let verdict = examine(&exam, |finding| findings.push((finding.step, finding.found.is_ok()))).await;
    assert_eq!(findings, [("name", true), ("tcp", false), ("target", false)]);
    assert!(matches!(verdict, Verdict::Failed(remedy) if remedy.contains("check that the relay runs")));
}
