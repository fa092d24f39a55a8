//! Open registration: wire §1.4, and what keeps it within bounds.

use base64::Engine as _;

use super::support::{Answer, Bench};

impl Bench {
    /// Registers without a token of this relay; further form fields, further header fields.
    async fn claim(&self, form: &str, fields: &str) -> Answer {
        self.request("POST", "/reversehttp", fields, form).await
    }
}

#[tokio::test]
async fn open_registration_is_off_by_default() {
    let bench = Bench::start();
    for form in ["name=demo", "name=demo&token=-", "name=demo&token=secret"] {
        assert_eq!(bench.claim(form, "").await.status, 403, "{form}");
    }
    assert_eq!(bench.claim("name=demo", "PTTH-Instance: a\r\n").await.status, 403);
}

#[tokio::test]
async fn the_first_registration_keeps_the_name() {
    let bench = Bench::open_to_all();
    assert_eq!(bench.claim("name=demo", "").await.status, 201);
    for form in ["name=demo", "name=demo&token=-", "name=demo&token=secret", "name=DEMO"] {
        let second = bench.claim(form, "").await;
        assert_eq!(second.status, 403, "{form}");
        assert!(second.body.contains("demo"), "{second:?}");
    }
    assert_eq!(bench.claim("name=demo", "PTTH-Instance: a\r\n").await.status, 403);
    assert_eq!(bench.claim("name=other&token=-", "").await.status, 201);
    assert_eq!(bench.claim("", "").await.status, 400, "a name is required");
}

#[tokio::test]
async fn a_shared_secret_identifies_an_agent() {
    let bench = Bench::open_to_all();
    assert_eq!(bench.claim("name=demo&token=our+secret", "").await.status, 201);
    assert_eq!(bench.claim("name=demo&token=our+secret", "").await.status, 204);
    assert_eq!(bench.claim("name=demo", "Authorization: Bearer our secret\r\n").await.status, 204);
    let basic = base64::engine::general_purpose::STANDARD.encode("anybody:our secret");
    assert_eq!(bench.claim("name=demo", &format!("Authorization: Basic {basic}\r\n")).await.status, 204);
    assert_eq!(bench.claim("name=demo&token=theirs", "").await.status, 403);
    let status = bench.request("GET", "/reversehttp?token=our+secret", "", "").await;
    assert_eq!(status.body, "name=demo&lease=30&polls=0&waiting=0&unanswered=0");
    assert_eq!(bench.request("GET", "/reversehttp?token=theirs", "", "").await.body, "");
    assert_eq!(bench.request("GET", "/reversehttp", "", "").await.status, 403, "a credential is required");
}

#[tokio::test]
async fn an_instance_field_lets_a_process_register_again() {
    let bench = Bench::open_to_all();
    let a = "PTTH-Instance: a;boot=1\r\n";
    assert_eq!(bench.claim("name=demo", a).await.status, 201);
    assert_eq!(bench.claim("name=demo", a).await.status, 204);
    assert_eq!(bench.claim("name=demo", "PTTH-Instance: b\r\n").await.status, 403);
    assert_eq!(bench.claim("name=demo&token=a", "").await.status, 403, "an instance id is not a secret");
}

#[tokio::test]
async fn an_invalid_token_is_not_accepted_as_a_shared_secret() {
    let bench = Bench::open_to_all();
    let real = bench.another_token(&["shop"]);
    let (id, _) = real.rsplit_once('_').unwrap();
    for wrong in
        ["ptth_", "ptth_x", &format!("{real}x"), &format!("{id}_wrong"), &format!("+{real}"), "PTTH_X"]
    {
        let form = bench.claim(&format!("name=demo&token={wrong}"), "").await;
        assert_eq!(form.status, 403, "{wrong}");
        for scheme in ["Bearer", "Token"] {
            let field = format!("Authorization: {scheme} {}\r\n", wrong.replace('+', "x"));
            assert_eq!(bench.claim("name=demo", &field).await.status, 403, "{field}");
        }
    }
    assert_eq!(bench.claim("name=demo", "Authorization: nothing\r\n").await.status, 403);
    assert_eq!(bench.claim("name=demo", "Authorization: Bearer \r\n").await.status, 403);
    assert_eq!(bench.claim(&format!("name=shop&token={real}"), "").await.status, 201);
}

#[tokio::test]
async fn names_of_tokens_and_reserved_names_require_a_token() {
    let bench = Bench::open_to_all();
    let shop = bench.another_token(&["shop"]);
    for name in ["shop", "SHOP", "www", "admin", "wpad", "reversehttp"] {
        let refused = bench.claim(&format!("name={name}&token=secret"), "").await;
        assert_eq!(refused.status, 403, "{refused:?}");
    }
    for form in ["host=shop.example", "name=demo&host=shop.example", "host=demo.relay.test"] {
        assert_eq!(bench.claim(form, "").await.status, 403, "{form}");
    }
    assert_eq!(bench.claim("name=demo", "").await.status, 201, "a refused request claims no name");
    assert_eq!(bench.claim(&format!("name=shop&token={shop}"), "").await.status, 201);
    // A token for any name has the better right too, and the reserved names are open to it.
    let any = bench.config.tokens.issue(ptth::internals::policy::Grants::any()).unwrap().1;
    assert_eq!(bench.claim(&format!("name=demo&token={}", any.expose()), "").await.status, 201);
    assert_eq!(bench.claim("name=demo", "").await.status, 403, "the token keeps the name");
    assert_eq!(bench.claim(&format!("name=www&token={}", any.expose()), "").await.status, 201);
}

#[tokio::test]
async fn an_authority_of_the_relay_cannot_be_registered() {
    let bench = Bench::with(|config| {
        config.open_registration = true;
        config.authorities = vec!["gate.relay.test".parse().unwrap()];
    });
    for form in ["name=gate", "name=gate&token=secret", &format!("name=gate&token={}", bench.token)] {
        assert_eq!(bench.claim(form, "").await.status, 403, "{form}");
    }
    let exact = bench.another_token(&["gate"]);
    assert_eq!(bench.claim(&format!("name=gate&token={exact}"), "").await.status, 403);
    assert_eq!(bench.visit("gate", "/").await.status, 200, "the relay still serves its own page");
}

#[tokio::test]
async fn a_token_for_a_name_takes_over_an_open_registration() {
    let bench = Bench::open_to_all();
    let first = bench.claim("name=demo&token=secret", "").await.link("first");
    let mut poll = bench.polling(&first).await;
    let token = bench.another_token(&["demo"]);
    let owner = bench.claim(&format!("name=demo&token={token}"), "").await;
    assert_eq!(owner.status, 201, "{owner:?}");
    // Its poll ends, and it does not come back.
    assert_eq!(poll.read().await.status, 403);
    assert_eq!(bench.claim("name=demo&token=secret", "").await.status, 403);
    let url = owner.link("first");
    let (visit, ()) = tokio::join!(bench.visit("demo", "/"), async {
        assert_eq!(bench.poll(&url).await.status, 200);
        assert_eq!(bench.answer(&url, "HTTP/1.1 200 OK\r\n\r\nowner").await.status, 202);
    });
    assert_eq!(visit.body, "owner");
}

#[tokio::test]
async fn issuing_a_token_ends_open_registrations_of_its_name() {
    let bench = Bench::open_to_all();
    let first = bench.claim("name=demo&token=secret", "").await.link("first");
    let mut poll = bench.polling(&first).await;
    bench.another_token(&["demo"]);
    assert_eq!(poll.read().await.status, 403, "before an agent uses the token");
}

#[tokio::test]
async fn open_registrations_are_limited_per_secret_and_address() {
    let bench = Bench::open_to_all();
    for n in 0..8 {
        assert_eq!(bench.claim(&format!("name=a{n}&token=one"), "").await.status, 201, "{n}");
    }
    let more = bench.claim("name=a8&token=one", "").await;
    assert_eq!((more.status, more.field("Retry-After")), (429, "60"), "{more:?}");
    let many: String = (0..9).map(|n| format!("name=b{n}&")).collect();
    assert_eq!(bench.claim(&format!("{many}token=two"), "").await.status, 429);
    assert_eq!(bench.claim("name=a7&token=one", "").await.status, 204, "a held name can be registered again");
    // Everybody here comes from one address.
    for n in 8..32 {
        assert_eq!(bench.claim(&format!("name=a{n}"), "").await.status, 201, "{n}");
    }
    let more = bench.claim("name=a32", "").await;
    assert_eq!(more.status, 429, "{more:?}");
    assert!(more.body.contains("32"), "{more:?}");
    let token = bench.another_token(&["shop"]);
    assert_eq!(
        bench.claim(&format!("name=shop&token={token}"), "").await.status,
        201,
        "tokens are exempt from the limit"
    );
}

#[tokio::test]
async fn open_registrations_survive_a_restart_until_disabled() {
    let bench = Bench::short_hold_and_open();
    let url = bench.claim("name=demo", "").await.link("first");
    let mut bench = bench.restarted().await;
    assert_eq!(bench.poll(&url).await.status, 204);
    assert_eq!(bench.claim("name=demo", "").await.status, 403, "the registration still holds its name");
    bench.config.open_registration = false;
    let bench = bench.restarted().await;
    assert_eq!(bench.poll(&url).await.status, 403);
}

#[tokio::test]
async fn upgrade_transports_apply_the_rules_of_open_registration() {
    let bench = Bench::open_to_all();
    let port = bench.at.port();
    let upgrade = |token: &str, name: &str, rest: &str| {
        let target = match token {
            "ptth" => format!("/.well-known/ptth/http%3A%2F%2F{name}.relay.test%3A{port}/"),
            _ => format!("/?name={name}"),
        };
        format!(
            "GET {target} HTTP/1.1\r\nHost: relay.test:{port}\r\nConnection: Upgrade\r\nUpgrade: {token}\r\n\
             ALPN: http%2F1.1\r\n{rest}\r\n"
        )
    };
    for token in ["PTTH/1.0", "ptth"] {
        let name = if token == "ptth" { "b" } else { "a" };
        let mut agent = bench.open().await;
        agent.send(&upgrade(token, name, "PTTH-Instance: me\r\n")).await;
        assert_eq!(agent.head().await.status, 101, "{token}");
        for (rest, status) in [
            ("", 403),
            ("PTTH-Instance: other\r\n", 403),
            ("PTTH-Instance: me\r\n", 101),
            ("Authorization: Bearer ptth_x\r\n", 401),
        ] {
            let mut again = bench.open().await;
            again.send(&upgrade(token, name, rest)).await;
            assert_eq!(again.head().await.status, status, "{token} {rest}");
        }
        let mut reserved = bench.open().await;
        reserved.send(&upgrade(token, "www", "")).await;
        assert_eq!(reserved.head().await.status, 403, "{token}");
    }
}

/// Anybody may make a relay hold bodies for an agent that anybody can be.
#[tokio::test]
async fn buffered_bodies_for_an_open_agent_have_a_lower_limit() {
    let bench = Bench::open_to_all();
    bench.claim("name=demo", "").await;
    let mut visitors = Vec::new();
    // None of them is complete, and together they are one byte too many.
    const PART: usize = ptth::internals::defaults::OPEN_MESSAGES / 5;
    for part in [PART, PART, PART, PART, ptth::internals::defaults::OPEN_MESSAGES - 4 * PART + 1] {
        let mut visitor = bench.open().await;
        let head = "POST / HTTP/1.1\r\nHost: demo.relay.test\r\nContent-Length: 4194304\r\n\r\n";
        visitor.send(&format!("{head}{}", "x".repeat(part))).await;
        visitors.push(visitor);
    }
    let answers = visitors.iter_mut().map(|visitor| Box::pin(visitor.read()));
    let (refused, _, _) = futures_util::future::select_all(answers).await;
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(refused.body.contains("limit of requests in flight"), "{refused:?}");
}
