//! Wire §1.4, row by row.

use super::support::{Bench, FORM};

#[tokio::test]
async fn a_new_registration_is_201_and_a_second_204_with_all_three_urls() {
    let bench = Bench::start();
    for status in [201, 204] {
        let answer = bench.register(&format!("name=Demo&token={}&lease=60", bench.token)).await;
        assert_eq!(answer.status, status, "{answer:?}");
        let (at, port) = (bench.at, bench.at.port());
        let link = answer.field("Link");
        let related = format!("; rel=\"first\", <http://demo.relay.test:{port}/>; rel=\"related\"");
        assert!(
            link.starts_with(&format!("<http://{at}/reversehttp/")) && link.ends_with(&related),
            "{link}"
        );
        let url = answer.link_url("first");
        assert!(!url.contains([';', ',', '"', '\'', ' ', '?']) && !url.contains(&bench.token), "{url}");
        assert!(answer.field("Location").starts_with(&format!("http://{at}/reversehttp/")), "{answer:?}");
        assert_eq!(answer.head.lines().filter(|l| l.starts_with("Link: ")).count(), 1, "{}", answer.head);
    }
}

#[tokio::test]
async fn fields_may_be_in_the_query_and_any_content_type_is_accepted() {
    let bench = Bench::start();
    let query = format!("/reversehttp?name=a&token={}&x=y", bench.token);
    assert_eq!(bench.request("POST", &query, "", "").await.status, 201);
    let form = format!("name=b&token={}", bench.token);
    for kind in ["", FORM, "text/plain", "application/json"] {
        let field = if kind.is_empty() { String::new() } else { format!("Content-Type: {kind}\r\n") };
        let answer = bench.request("POST", "/reversehttp?name=c&token=wrong", &field, &form).await;
        assert!(
            [201, 204].contains(&answer.status) && answer.field("Link").contains("//b.relay.test"),
            "{answer:?}"
        );
    }
    let bearer = format!("Authorization: Bearer {}\r\n", bench.token);
    assert_eq!(bench.request("POST", "/reversehttp", &bearer, "name=d&token=-").await.status, 201);
}

#[tokio::test]
async fn an_invalid_form_is_400() {
    let bench = Bench::start();
    let token = &bench.token;
    for form in [
        format!("token={token}"),
        format!("name=&token={token}"),
        format!("name=a.b&token={token}"),
        format!("name=a%2Fb&token={token}"),
        format!("name=-a&token={token}"),
        format!("name=a&token={token}&lease=soon"),
        format!("name=a&token={token}&lease=-1"),
    ] {
        assert_eq!(bench.register(&form).await.status, 400, "{form}");
    }
}

#[tokio::test]
async fn a_wrong_token_and_a_foreign_name_are_both_403() {
    let bench = Bench::start();
    bench.registered("mine").await;
    let other = bench.another_token(&["theirs"]);
    for form in [
        "name=mine".to_owned(),
        "name=mine&token=-".into(),
        "name=mine&token=ptth_000000000000_x".into(),
        format!("name=mine&token={other}"),
        format!("name=free&token={other}"),
    ] {
        assert_eq!(bench.register(&form).await.status, 403, "{form}");
    }
    // A name that somebody holds is not given to another token that may have any.
    let any = bench.config.tokens.issue(ptth::internals::policy::Grants::any()).unwrap().1;
    assert_eq!(bench.register(&format!("name=mine&token={}", any.expose())).await.status, 403);
}

#[tokio::test]
async fn urls_use_the_requested_authority_and_serve_one_name() {
    let bench = Bench::start();
    let form = format!("name=demo&token={}", bench.token);
    let mut urls = Vec::new();
    for host in [format!("localhost:{}", bench.at.port()), "relay.test".into()] {
        let mut raw = bench.open().await;
        let length = form.len();
        raw.send(&format!(
            "POST /reversehttp HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n\r\n{form}"
        ))
        .await;
        let answer = raw.read().await;
        assert!(answer.link_url("first").starts_with(&format!("http://{host}/reversehttp/")), "{answer:?}");
        urls.push(answer.link("first"));
    }
    let (visit, polled) = tokio::join!(bench.visit("demo", "/"), async {
        let polled = bench.poll(&urls[0]).await;
        bench.answer(&urls[0], "HTTP/1.1 200 OK\r\n\r\nmet").await;
        polled
    });
    assert_eq!((visit.status, &*visit.body, polled.status), (200, "met", 200));
}

#[tokio::test]
async fn the_gateway_matches_its_whole_path_and_passes_upgrades_on() {
    let bench = Bench::start();
    let form = format!("name=demo&token={}", bench.token);
    assert_eq!(bench.request("POST", "/reversehttpfoo", "", &form).await.status, 404);
    let target = format!("/reversehttp?name=demo&token={}", bench.token);
    let bearer = format!("Authorization: Bearer {}\r\n", bench.token);
    assert_eq!(bench.request("POST", &target, &format!("{bearer}ALPN: h2\r\n"), "").await.status, 426);
    let upgrade = format!("{bearer}Connection: Upgrade\r\nUpgrade: PTTH/1.0\r\n");
    assert_eq!(bench.request("POST", &target, &upgrade, "").await.status, 101);
    // Under an agent's own host the gateway path is the agent's.
    assert_eq!(bench.request("PATCH", "/reversehttp", "", "").await.status, 405);
    assert_eq!(bench.request("POST", "/reversehttp", "", &"x".repeat(20_000)).await.status, 413);
}

#[tokio::test]
async fn the_name_may_be_omitted_with_a_token_for_one_name() {
    let bench = Bench::start();
    let token = bench.another_token(&["only"]);
    let answer = bench.register(&format!("token={token}")).await;
    assert_eq!(answer.status, 201);
    assert!(answer.field("Link").contains("//only.relay.test"), "{answer:?}");
}
