//! What there is at each address, and what is answered to bodies that are too large, too slow or no JSON.

use super::answer::{Answer, Events, choices};
use super::ask::{Ask, Kind};
use super::engine::{Busy, Desk};
use super::line::Line;
use super::refusal::Refusal;
use super::{Served, no_such_model};
use crate::input::quoted;
use crate::terminal::printable;
use http_body_util::{BodyExt, Either, Full};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, EXPECT, HOST, HeaderValue, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// Time for the body of a request.
const BODY_TIME: Duration = Duration::from_secs(30);
/// Bytes of a body that is too large that are read all the same, so that its sender comes to read the answer.
const DRAINED: u64 = 64 << 20;
/// Sequences of one request.
const MOST_SEQUENCES: usize = 128;

type Reply = Response<Either<Full<Bytes>, Events>>;

/// All that answers need.
pub struct Site {
    served: Arc<Served>,
    desk: Desk,
    /// Bytes of a body at most.
    max_body: u64,
}

impl Site {
    /// A site for a model whose jobs are handed in at `desk`.
    pub fn new(served: Served, desk: Desk, max_body: u64) -> Site {
        Site { served: Arc::new(served), desk, max_body }
    }

    /// Sequences under way or waiting at most.
    pub fn places(&self) -> usize {
        self.desk.places()
    }

    /// The answer to a request, whatever it is.
    pub async fn answer(&self, request: Request<Incoming>) -> Reply {
        let line = Arc::new(Line::new(&request, self.served.verbose));
        let reply = self.route(request, &line).await.unwrap_or_else(|refusal| {
            line.say(refusal.message.clone());
            refused(&refusal)
        });
        line.answered(reply.status());
        reply
    }

    async fn route(&self, request: Request<Incoming>, line: &Arc<Line>) -> Result<Reply, Refusal> {
        self.check_host(&request)?;
        let path = request.uri().path().to_owned();
        let model = path.strip_prefix("/v1/models/").map(decoded);
        let kind = match path.as_str() {
            "/" | "/health" | "/v1/models" => None,
            "/v1/completions" => Some(Kind::Completion),
            "/v1/chat/completions" => Some(Kind::Chat),
            _ if model.is_some() => None,
            _ => {
                let message = "there is nothing at this address; / says what there is";
                return Err(Refusal::new(StatusCode::NOT_FOUND, "not_found", message));
            }
        };
        // What may be got may be asked for by HEAD: the library leaves the body out.
        let (methods, allowed) = match kind {
            Some(_) => (&[Method::POST][..], "POST"),
            None => (&[Method::GET, Method::HEAD][..], "GET, HEAD"),
        };
        if !methods.contains(request.method()) {
            let message = format!("this address takes {allowed} alone");
            line.say(message.clone());
            let mut reply = refused(&Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message));
            reply.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
            return Ok(reply);
        }
        match (kind, model) {
            (Some(kind), _) => self.generate(kind, request, line).await,
            (None, Some(name)) if name != self.served.name => Err(no_such_model(&name, &self.served)),
            (None, Some(_)) => Ok(whole(StatusCode::OK, &self.model())),
            (None, None) if path == "/" => Ok(self.page()),
            (None, None) if path == "/health" => {
                let (sequences, places) = (self.desk.taken(), self.desk.places());
                Ok(whole(StatusCode::OK, &json!({"status": "ok", "sequences": sequences, "places": places})))
            }
            (None, None) => Ok(whole(StatusCode::OK, &json!({"object": "list", "data": [self.model()]}))),
        }
    }

    /// Refuses a request that is for another host, by the header or the address that it asks for.
    fn check_host(&self, request: &Request<Incoming>) -> Result<(), Refusal> {
        let headers = request.headers().get_all(HOST).iter().map(|host| host.to_str().unwrap_or_default());
        let named = headers.chain(request.uri().authority().map(|authority| authority.as_str()));
        let mut others = named.filter(|name| !self.served.hosts.allow(name));
        let Some(other) = others.next() else { return Ok(()) };
        let message = format!(
            "this server is asked as {}, which is not its name: use its address or localhost, or start it with --host \
             and that name",
            quoted(other)
        );
        Err(Refusal::new(StatusCode::FORBIDDEN, "wrong_host", message))
    }

    /// For somebody who looks by a browser.
    fn page(&self) -> Reply {
        let (name, capacity) = (printable(&self.served.name), self.served.capacity);
        let text = format!(
            "hadal serves the model {name}, {capacity} tokens a sequence.\n\n\
             Clients of OpenAI's interface take the address of this page with /v1 behind it as their base URL, and any \
             key.\n\n\
             GET  /v1/models              the model\n\
             POST /v1/chat/completions    conversations that are answered\n\
             POST /v1/completions         texts that are continued\n\
             GET  /health                 sequences under way\n"
        );
        let mut reply = Response::new(Either::Left(Full::new(Bytes::from(text))));
        reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        reply.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        reply
    }

    fn model(&self) -> Value {
        let Served { name, created, capacity, .. } = &*self.served;
        json!({
            "id": name, "object": "model", "created": created, "owned_by": "hadal", "max_model_len": capacity,
        })
    }

    async fn generate(&self, kind: Kind, request: Request<Incoming>, line: &Arc<Line>) -> Result<Reply, Refusal> {
        check_type(request.headers())?;
        let body = self.body(request).await?;
        let (served, most) = (self.served.clone(), self.desk.places().min(MOST_SEQUENCES));
        // Long prompts take their time to encode, in which others are answered.
        let read = tokio::task::spawn_blocking(move || Ask::read(kind, &body, &served, most));
        let failed = |_| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the request could not be read");
        let mut ask = read.await.map_err(failed)??;
        let choices = choices(&ask, &self.served);
        let replies = self.desk.submit(std::mem::take(&mut ask.requests)).map_err(|busy| match busy {
            Busy::Full => {
                let message = "as many sequences as the queue holds are under way or waiting; try again later";
                Refusal::new(StatusCode::TOO_MANY_REQUESTS, "queue_full", message)
            }
            Busy::Ended => Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", "the server is stopping"),
        })?;
        let answer = Answer::new(&ask, choices, replies, &self.served, line.clone());
        if !ask.stream {
            return Ok(whole(StatusCode::OK, &answer.whole().await?));
        }
        let mut reply = Response::new(Either::Right(Events::new(answer)));
        reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
        reply.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        Ok(reply)
    }

    /// A request's body, within the limits of size and time.
    async fn body(&self, request: Request<Incoming>) -> Result<Vec<u8>, Refusal> {
        let waits = request.headers().contains_key(EXPECT);
        let mut body = request.into_body();
        let said = body.size_hint().lower();
        if said > self.max_body && (waits || said > DRAINED) {
            return Err(self.too_large());
        }
        let read = async {
            let (mut bytes, mut seen) = (Vec::new(), 0);
            while let Some(frame) = body.frame().await {
                let cut = |_| Refusal::new(StatusCode::BAD_REQUEST, "incomplete_body", "the body is not complete");
                let Ok(data) = frame.map_err(cut)?.into_data() else { continue };
                seen += data.len() as u64;
                match seen {
                    _ if seen <= self.max_body => bytes.extend_from_slice(&data),
                    _ if seen > DRAINED => break,
                    _ => bytes = Vec::new(),
                }
            }
            if seen > self.max_body { Err(self.too_large()) } else { Ok(bytes) }
        };
        let late = || Refusal::new(StatusCode::REQUEST_TIMEOUT, "too_slow", "the body took too long to come");
        timeout(BODY_TIME, read).await.unwrap_or_else(|_| Err(late()))
    }

    fn too_large(&self) -> Refusal {
        let message = format!("the body has more than the {} bytes that are taken", self.max_body);
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
    }
}

/// Refuses bodies that do not call themselves JSON. Pages of a browser cannot send such to another site without being
/// allowed to, so that none can make this server work.
fn check_type(headers: &HeaderMap) -> Result<(), Refusal> {
    let text = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = text.split(';').next().unwrap_or_default().trim();
    if kind.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let message = "the body must be JSON, and the header content-type must say application/json";
    Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not_json", message))
}

/// A part of an address with its escapes (`%20`) as the bytes that they stand for.
fn decoded(part: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), part.as_bytes());
    while let Some((&first, after)) = rest.split_first() {
        let digits = after.get(..2).filter(|digits| first == b'%' && digits.iter().all(u8::is_ascii_hexdigit));
        let byte = digits.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        bytes.push(byte.unwrap_or(first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn refused(refusal: &Refusal) -> Reply {
    let mut reply = whole(refusal.status, &refusal.body());
    let headers = reply.headers_mut();
    match refusal.status {
        StatusCode::TOO_MANY_REQUESTS => drop(headers.insert(RETRY_AFTER, HeaderValue::from_static("1"))),
        // There may be more of the body to come, which nobody will read.
        StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT => {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        _ => {}
    }
    reply
}

fn whole(status: StatusCode, body: &Value) -> Reply {
    let mut reply = Response::new(Either::Left(Full::new(Bytes::from(body.to_string()))));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}
