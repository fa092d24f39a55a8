//! The clients of other languages, each against a real relay: what a visitor gets, and what becomes of them when the
//! relay refuses, goes, or comes back.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod browser;
mod client;
mod devtools;
#[expect(dead_code, reason = "each suite uses a part of it")]
#[path = "../support/long.rs"]
mod long;
mod pages;
#[path = "../e2e/process.rs"]
mod process;
mod scenario;
#[expect(dead_code, reason = "the tests of the whole program need more of it")]
#[path = "../e2e/site.rs"]
mod site;
mod uploads;

/// One test for each scenario that a client is up to.
macro_rules! scenarios {
    ($module:ident, $client:ident: $($scenario:ident)*) => {
        mod $module {
            $(
                #[test]
                fn $scenario() {
                    crate::scenario::$scenario(crate::client::Client::$client);
                }
            )*
        }
    };
}

scenarios!(
    js,
    Js: requests_are_answered any_bytes_cross an_error_is_a_500 requests_overlap bodies_stream
    a_wrong_token_is_reported a_client_reconnects_to_a_restarted_relay an_interrupt_releases_the_name
    a_client_trusts_a_custom_ca no_token_is_needed_where_registration_is_open
    a_name_under_localhost_is_this_machine
);
scenarios!(js_18, Js18: requests_are_answered any_bytes_cross bodies_stream an_interrupt_releases_the_name);
scenarios!(
    deno,
    Deno: requests_are_answered any_bytes_cross an_error_is_a_500 requests_overlap bodies_stream
    a_wrong_token_is_reported an_interrupt_releases_the_name a_client_trusts_a_custom_ca
);
scenarios!(flask, Flask: requests_are_answered any_bytes_cross an_error_is_a_500 requests_overlap bodies_stream);
scenarios!(django, Django: requests_are_answered any_bytes_cross an_error_is_a_500 requests_overlap bodies_stream);
scenarios!(
    python,
    Wsgi: requests_are_answered any_bytes_cross an_error_is_a_500 requests_overlap bodies_stream
    a_wrong_token_is_reported a_client_reconnects_to_a_restarted_relay an_interrupt_releases_the_name
    a_client_trusts_a_custom_ca no_token_is_needed_where_registration_is_open
    a_name_under_localhost_is_this_machine
);
scenarios!(python_handler, Handler: any_bytes_cross an_error_is_a_500);
scenarios!(
    curl,
    Shell: requests_are_answered any_bytes_cross an_error_is_a_500 a_wrong_token_is_reported
    a_client_reconnects_to_a_restarted_relay an_interrupt_releases_the_name a_client_trusts_a_custom_ca
);

/// It promises as much.
#[test]
fn the_shell_script_is_short() {
    let text = std::fs::read_to_string(client::file("clients/curl/serve.sh")).unwrap();
    assert!(text.lines().count() < 60);
}

#[test]
fn the_shell_script_echoes_without_a_command() {
    let site = site::Site::new();
    let relay = site.relay_at("http://127.0.0.1:0");
    let mut command = client::shell();
    command.env("PTTH_TOKEN", client::token(&site)).args([&client::plain(&relay), "shop"]);
    let agent = process::Process::start(&mut command);
    let answer = site.curl(["--header", "X-Mine: yes", &format!("{}a?b", agent.line(0))]);
    let text = answer.text();
    assert!(text.starts_with("GET /a?b HTTP/1.1\r\n"), "{text}");
    assert!(text.to_ascii_lowercase().contains("\r\nx-mine: yes\r\n"), "{text}");
}
