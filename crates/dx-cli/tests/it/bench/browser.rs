//! A headless Chromium that is told what to do, to see a page as a person would: in both colour schemes, narrow and wide.
//!
//! It speaks the DevTools protocol over two pipes: messages end with a NUL byte. For: the soak suite `bench`. Must never:
//! leave a browser behind, or let it load anything but the page.

use base64::Engine as _;
use dx_testkit::TestEnv;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

/// Messages that are kept.
const TELLING: [&str; 4] =
    ["Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Network.requestWillBeSent"];

/// One page in a browser of its own.
pub(crate) struct Browser {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    number: u64,
    session: Option<String>,
    /// Errors, console lines and requests, as the browser told of them.
    pub(crate) told: Vec<Value>,
}

impl Browser {
    /// # Panics
    /// When there is no Chromium.
    pub(crate) fn start(env: &TestEnv) -> Self {
        let mut command = env.command("sh");
        // Its own descriptors for the protocol are 3 and 4.
        command.args(["-c", "exec chromium \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1", "sh"]);
        command.args(["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"]);
        command.args(["--proxy-server=127.0.0.1:1", "--no-first-run", "--disable-background-networking"]);
        command.arg(format!("--user-data-dir={}", env.path("chromium").display()));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut browser = Self { child, input, output, number: 0, session: None, told: Vec::new() };
        let target = browser.call("Target.createTarget", &json!({"url": "about:blank"}));
        let target = json!({"targetId": target["targetId"], "flatten": true});
        let attached = browser.call("Target.attachToTarget", &target);
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Log", "Runtime", "Network"] {
            browser.call(&format!("{domain}.enable"), &json!({}));
        }
        browser
    }

    /// Shows a file in a window of this width.
    pub(crate) fn show(&mut self, file: &Path, width: u32, dark: bool) {
        let size = json!({"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": false});
        self.call("Emulation.setDeviceMetricsOverride", &size);
        let scheme = json!({"name": "prefers-color-scheme", "value": if dark { "dark" } else { "light" }});
        self.call("Emulation.setEmulatedMedia", &json!({"features": [scheme]}));
        let url = json!({"url": format!("file://{}", file.display())});
        let shown = self.call("Page.navigate", &url);
        assert!(shown["errorText"].is_null(), "{shown}");
        while self.read()["method"] != "Page.loadEventFired" {}
    }

    /// The value of an expression of JavaScript in the page.
    pub(crate) fn value(&mut self, expression: &str) -> Value {
        let asked = json!({"expression": expression, "returnByValue": true});
        let answer = self.call("Runtime.evaluate", &asked);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// The whole page as a picture.
    pub(crate) fn picture(&mut self, file: &Path) {
        let shot = self.call("Page.captureScreenshot", &json!({"captureBeyondViewport": true}));
        let png = base64::engine::general_purpose::STANDARD.decode(shot["data"].as_str().unwrap()).unwrap();
        std::fs::write(file, png).unwrap();
    }

    fn call(&mut self, method: &str, params: &Value) -> Value {
        self.number += 1;
        let id = self.number;
        let mut message = json!({"id": id, "method": method, "params": params});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.input.write_all(format!("{message}\0").as_bytes()).unwrap();
        loop {
            let answer = self.read();
            if answer["id"] == id {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].clone();
            }
        }
    }

    fn read(&mut self) -> Value {
        let mut bytes = Vec::new();
        self.output.read_until(0, &mut bytes).unwrap();
        assert_eq!(bytes.pop(), Some(0), "Chromium is not there, or ended (apt install chromium)");
        let message: Value = serde_json::from_slice(&bytes).unwrap();
        if TELLING.iter().any(|method| message["method"] == *method) {
            self.told.push(message.clone());
        }
        message
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
