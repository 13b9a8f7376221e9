//! Blocking HTTP with JSON bodies: a deadline for each call, a bound for each answer.
//!
//! Called by: the client, and `dx-engine` for OpenAI-compatible endpoints. Must never: follow a redirect (it would carry
//! credentials elsewhere), or send what is meant for this machine through a proxy.

use serde_json::Value;
use std::io::Read;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout, time};

/// No answer is larger.
const MAX_BODY: u64 = 64 << 20;
/// A machine that cannot be reached says so within this, or not at all.
const CONNECT: Duration = Duration::from_secs(5);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    #[error("`{0}` is no address of an HTTP server")]
    BadUrl(String),
    #[error("no connection: {0}")]
    Unreachable(String),
    #[error("no answer within {:.1} s", .0.as_secs_f32())]
    Deadline(Duration),
    #[error("the answer is larger than {} MiB", MAX_BODY >> 20)]
    TooLarge,
    #[error("the connection broke: {0}")]
    Broken(String),
}

/// What a server said, whatever its status.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
    /// How long it asks to wait.
    pub retry_after: Option<Duration>,
}

impl Answer {
    /// The body as JSON; `None` when it is none.
    pub fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }
}

/// One server.
#[derive(Debug, Clone)]
pub struct Http {
    agent: ureq::Agent,
    base: String,
    /// The value of `Authorization`.
    auth: Option<String>,
}

impl Http {
    /// `base` is the part that all addresses share.
    pub fn new(base: &str, auth: Option<String>) -> Result<Self, HttpError> {
        let base = base.trim_end_matches('/').to_owned();
        let bad = || HttpError::BadUrl(base.clone());
        let uri: ureq::http::Uri = base.parse().map_err(|_| bad())?;
        let host =
            uri.host().filter(|_| matches!(uri.scheme_str(), Some("http" | "https"))).ok_or_else(bad)?;
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(bad());
        }
        let loopback = host == "localhost" || host == "[::1]" || host.starts_with("127.");
        let mut config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(CONNECT));
        if loopback {
            config = config.proxy(None);
        }
        let agent = ureq::Agent::with_parts(config.build(), DefaultConnector::default(), Names::default());
        Ok(Self { agent, base, auth })
    }

    /// The part that all addresses share.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// One call.
    pub fn call(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        deadline: Duration,
    ) -> Result<Answer, HttpError> {
        let bytes = body.map(ToString::to_string).unwrap_or_default();
        let json = body.map(|_| ("content-type", "application/json"));
        self.call_with(method, path, bytes, json.as_slice(), deadline)
    }

    /// One call with a body as it is, and headers that say what it is.
    pub fn call_with(
        &self,
        method: &str,
        path: &str,
        body: String,
        headers: &[(&str, &str)],
        deadline: Duration,
    ) -> Result<Answer, HttpError> {
        let accept = ("accept", "application/json");
        let mut response = self.send(method, path, body, &[&[accept], headers].concat(), deadline)?;
        let status = response.status().as_u16();
        let retry_after = retry_after(response.headers());
        let read = response.body_mut().with_config().limit(MAX_BODY).read_to_vec();
        let body = read.map_err(|error| failed(error, deadline))?;
        Ok(Answer { status, body, retry_after })
    }

    /// An answer that is read as it comes, at most until the deadline.
    pub(crate) fn stream(
        &self,
        path: &str,
        deadline: Duration,
    ) -> Result<(u16, impl Read + use<>), HttpError> {
        let response = self.send("GET", path, String::new(), &[("accept", "text/event-stream")], deadline)?;
        let status = response.status().as_u16();
        Ok((status, response.into_body().into_reader()))
    }

    fn send(
        &self,
        method: &str,
        path: &str,
        body: String,
        headers: &[(&str, &str)],
        deadline: Duration,
    ) -> Result<ureq::http::Response<ureq::Body>, HttpError> {
        let mut request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(auth) = &self.auth {
            request = request.header("authorization", auth);
        }
        let request = request.body(body).map_err(|_| HttpError::BadUrl(self.base.clone()))?;
        // Nothing at all would be no deadline.
        let limit = deadline.max(Duration::from_millis(1));
        let request = self.agent.configure_request(request).timeout_global(Some(limit)).build();
        self.agent.run(request).map_err(|error| failed(error, deadline))
    }
}

/// Looks names up. An address in numbers is none, so no thread has to wait for its answer, at each call.
#[derive(Debug, Default)]
struct Names(DefaultResolver);

impl Resolver for Names {
    fn resolve(
        &self,
        uri: &ureq::http::Uri,
        config: &ureq::config::Config,
        mut timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        if host.parse::<IpAddr>().is_ok() {
            timeout.after = time::Duration::NotHappening;
        }
        self.0.resolve(uri, config, timeout)
    }
}

fn failed(error: ureq::Error, deadline: Duration) -> HttpError {
    match error {
        ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => {
            HttpError::Unreachable("it does not answer".to_owned())
        }
        ureq::Error::Timeout(_) => HttpError::Deadline(deadline),
        ureq::Error::HostNotFound => HttpError::Unreachable("there is no such host".to_owned()),
        ureq::Error::ConnectionFailed => HttpError::Unreachable("it was refused".to_owned()),
        ureq::Error::BodyExceedsLimit(_) => HttpError::TooLarge,
        ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            HttpError::Unreachable("it was refused".to_owned())
        }
        other => HttpError::Broken(other.to_string()),
    }
}

/// In seconds, or as a date, which is that of the server's clock if it tells that.
fn retry_after(headers: &ureq::http::HeaderMap) -> Option<Duration> {
    let text = |name: &str| Some(headers.get(name)?.to_str().ok()?.trim());
    let date = |text: &str| httpdate::parse_http_date(text).ok();
    let wanted = text("retry-after")?;
    if let Ok(seconds) = wanted.parse() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let now = text("date").and_then(date).unwrap_or_else(SystemTime::now);
    // One that has passed asks for no wait.
    Some(date(wanted)?.duration_since(now).unwrap_or_default())
}

/// The value of `Authorization` for a user's password.
pub(crate) fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", base64(format!("{user}:{password}").as_bytes()))
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let of = |at: usize| u32::from(three.get(at).copied().unwrap_or(0));
        let bits = of(0) << 16 | of(1) << 8 | of(2);
        for digit in 0..4 {
            let filled = digit <= three.len();
            let index = (bits >> (18 - 6 * digit)) as usize & 63;
            text.push(if filled { char::from(DIGITS[index]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_as_the_standard_has_it() {
        for (text, coded) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
        {
            assert_eq!(base64(text.as_bytes()), coded);
        }
        assert_eq!(basic("opencode", "pw"), "Basic b3BlbmNvZGU6cHc=");
    }

    #[test]
    fn addresses_are_of_http_servers_and_hold_no_password() {
        for bad in ["", "127.0.0.1:4096", "ftp://h", "http://", "http://u:p@h", "file:///x"] {
            assert!(matches!(Http::new(bad, None), Err(HttpError::BadUrl(_))), "{bad}");
        }
        assert_eq!(Http::new("http://127.0.0.1:1/", None).unwrap().base(), "http://127.0.0.1:1");
    }

    #[test]
    fn a_wait_is_told_in_seconds_or_as_a_date() {
        let wait = |told: &[(&'static str, &str)]| {
            let headers = told
                .iter()
                .map(|(name, value)| (ureq::http::HeaderName::from_static(name), value.parse().unwrap()));
            retry_after(&headers.collect()).map(|wait| wait.as_secs_f64())
        };
        let date = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(wait(&[("retry-after", "1.5")]), Some(1.5));
        assert_eq!(wait(&[date, ("retry-after", "Sun, 06 Nov 1994 08:50:07 GMT")]), Some(30.0));
        // Without a date of the server's, ours counts; and one that has passed is no wait.
        assert_eq!(wait(&[("retry-after", "Sun, 06 Nov 1994 08:50:07 GMT")]), Some(0.0));
        assert!(wait(&[("retry-after", "Tue, 31 Dec 2999 23:59:59 GMT")]) > Some(1e6));
        for none in ["", "-1", "soon", "NaN"] {
            assert_eq!(wait(&[date, ("retry-after", none)]), None, "{none}");
        }
    }

    #[test]
    fn nobody_there_is_told_at_once() {
        let http = Http::new("http://127.0.0.1:9", None).unwrap();
        let error = http.call("GET", "/x", None, Duration::from_secs(3)).unwrap_err();
        assert!(matches!(error, HttpError::Unreachable(_)), "{error}");
    }

    #[test]
    fn silence_ends_at_the_deadline() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let http = Http::new(&format!("http://{}", listener.local_addr().unwrap()), None).unwrap();
        let error = http.call("GET", "/x", None, Duration::from_millis(50)).unwrap_err();
        assert!(matches!(error, HttpError::Deadline(_)), "{error}");
    }
}
