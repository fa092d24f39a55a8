//! Chromium, and the DevTools protocol over its WebSocket: as much of it as the tests need.

use std::fmt::Display;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::process::{PATIENCE, Process};
use crate::site::poll;

/// A browser of its own, with a fresh profile, that asks nobody but who it is sent to.
pub(crate) struct Browser {
    pub(crate) process: Process,
    socket: WebSocketStream<TcpStream>,
    runtime: Runtime,
    calls: u64,
    _profile: TempDir,
}

/// One tab of it.
#[derive(Clone)]
pub(crate) struct Tab {
    target: String,
    pub(crate) session: String,
}

impl Browser {
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    /// With further arguments.
    pub(crate) fn with(arguments: &[&str]) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let mut command = Command::new("chromium");
        command.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]);
        command.args(["--disable-background-networking", "--disable-component-update", "--disable-sync"]);
        command.args(["--disable-dev-shm-usage", "--no-proxy-server", "--remote-debugging-port=0"]);
        command
            .args(arguments)
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank");
        let process = Process::start(&mut command);
        let (port, path) = poll(|| {
            let text = std::fs::read_to_string(profile.path().join("DevToolsActivePort")).ok()?;
            let (port, path) = text.split_once('\n')?;
            Some((port.parse::<u16>().ok()?, path.trim().to_owned()))
        })
        .unwrap_or_else(|| panic!("no DevTools port; {process}"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let socket = runtime.block_on(async {
            let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            client_async(format!("ws://127.0.0.1:{port}{path}"), stream).await.unwrap().0
        });
        Self { process, socket, runtime, calls: 0, _profile: profile }
    }

    /// One command and its result.
    pub(crate) fn call(&mut self, session: Option<&str>, method: &str, parameters: &Value) -> Value {
        self.calls += 1;
        let mut call = json!({ "id": self.calls, "method": method, "params": parameters });
        if let Some(session) = session {
            call["sessionId"] = session.into();
        }
        let (id, socket) = (self.calls, &mut self.socket);
        let exchange = async {
            socket.send(Message::text(call.to_string())).await.unwrap();
            loop {
                let message = socket.next().await.expect("the browser closed its connection").unwrap();
                let Message::Text(text) = message else { continue };
                let answer: Value = serde_json::from_str(&text).unwrap();
                if answer["id"] == id {
                    return answer;
                }
            }
        };
        let answered = self.runtime.block_on(async { tokio::time::timeout(PATIENCE, exchange).await });
        let answer = answered.unwrap_or_else(|_| panic!("{method}: no answer; {}", self.process));
        assert!(answer["error"].is_null(), "{method}: {answer}");
        answer["result"].clone()
    }

    /// A new tab at a URL.
    pub(crate) fn open(&mut self, url: impl Display) -> Tab {
        let target = self.call(None, "Target.createTarget", &json!({ "url": url.to_string() }));
        let target = target["targetId"].as_str().unwrap().to_owned();
        let attach = json!({ "targetId": target, "flatten": true });
        let attached = self.call(None, "Target.attachToTarget", &attach);
        let tab = Tab { target, session: attached["sessionId"].as_str().unwrap().to_owned() };
        self.until(&tab, &format!("location.href === '{url}' && document.readyState === 'complete'"));
        tab
    }

    /// Closes a tab as a person does: its page hears of it.
    pub(crate) fn close(&mut self, tab: &Tab) {
        self.call(Some(&tab.session), "Page.close", &json!({}));
        let target = tab.target.clone();
        for _ in 0..500 {
            let all = self.call(None, "Target.getTargets", &json!({}));
            let there = |info: &Value| info["targetId"] == target.as_str();
            if !all["targetInfos"].as_array().unwrap().iter().any(there) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("a tab does not close; {}", self.process);
    }

    /// The value of an expression; of a promise, what it resolves to.
    pub(crate) fn value(&mut self, tab: &Tab, expression: &str) -> Value {
        let parameters = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let result = self.call(Some(&tab.session), "Runtime.evaluate", &parameters);
        assert!(result["exceptionDetails"].is_null(), "{expression}: {result}");
        result["result"]["value"].clone()
    }

    pub(crate) fn text(&mut self, tab: &Tab, expression: &str) -> String {
        let value = self.value(tab, expression);
        value.as_str().unwrap_or_else(|| panic!("{expression}: {value}")).to_owned()
    }

    /// Waits until an expression is true.
    pub(crate) fn until(&mut self, tab: &Tab, expression: &str) {
        let mut last = Value::Null;
        for _ in 0..PATIENCE.as_millis() / 20 {
            last = self.value(tab, expression);
            if last == true {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let page = self.text(tab, "document.body ? document.body.innerText : ''");
        panic!("{expression} is {last}: {page}");
    }

    /// Puts a file into a form.
    pub(crate) fn choose(&mut self, tab: &Tab, id: &str, file: &Path) {
        let find = json!({ "expression": format!("document.getElementById('{id}')") });
        let object = self.call(Some(&tab.session), "Runtime.evaluate", &find)["result"]["objectId"].clone();
        let parameters = json!({ "files": [file], "objectId": object });
        self.call(Some(&tab.session), "DOM.setFileInputFiles", &parameters);
    }
}
