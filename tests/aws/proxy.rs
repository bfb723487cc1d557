//! A proxy in front of a local AWS server that does what EC2 does and the servers
//! do not (tokens, capacity, pages, lag: `proxy/world.rs`), breaks what a test or
//! a seed says (`proxy/faults.rs`), and keeps a journal of all calls.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue, TRANSFER_ENCODING,
};
use hyper::http::request::Parts;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

#[path = "proxy/call.rs"]
pub(crate) mod call;
#[path = "proxy/faults.rs"]
pub(crate) mod faults;
#[path = "proxy/groups.rs"]
pub(crate) mod groups;
#[path = "proxy/needs.rs"]
pub(crate) mod needs;
#[path = "proxy/policy.rs"]
pub(crate) mod policy;
#[path = "proxy/world.rs"]
pub(crate) mod world;
#[path = "proxy/xml.rs"]
mod xml;

use call::{Call, Protocol, refusal};
use faults::{Fault, Faults};
use groups::Groups;
use needs::{Account, Tags};
use policy::{Need, Policy};
use world::{Grant, Pool, World};

use crate::server::Server;

/// An answer, held in full.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn new(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        Self {
            status,
            headers,
            body: body.into(),
        }
    }

    fn xml(text: String) -> Self {
        Self::new(StatusCode::OK, "text/xml", text)
    }

    fn refusal(protocol: Protocol, status: u16, code: &str, message: &str) -> Self {
        let (kind, body) = refusal(protocol, code, message);
        let status = StatusCode::from_u16(status).expect("a status");
        let mut answer = Self::new(status, kind, body);
        if protocol == Protocol::Cbor {
            let cbor = HeaderValue::from_static("rpc-v2-cbor");
            answer.headers.insert("smithy-protocol", cbor);
        }
        answer
    }

    fn no_capacity(pool: &Pool) -> Self {
        let wanted = pool
            .instance_type
            .as_deref()
            .unwrap_or("what was asked for");
        let place = pool.zone.as_deref().unwrap_or("the zone");
        Self::refusal(
            Protocol::Ec2,
            500,
            "InsufficientInstanceCapacity",
            &format!("We currently do not have sufficient {wanted} capacity in {place}."),
        )
    }

    /// An instant fleet without instances is no error: it says why it is empty.
    fn empty_fleet(errors: &str) -> Self {
        Self::xml(format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<CreateFleetResponse \
             xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><requestId>proxy</requestId>\
             <fleetId>fleet-00000000-0000-0000-0000-000000000000</fleetId><fleetInstanceSet/>\
             <errorSet>{errors}</errorSet></CreateFleetResponse>"
        ))
    }

    /// What an instant fleet says of pools that gave nothing, each with its code.
    fn fleet_errors(pools: &[(Pool, String)]) -> String {
        let mut errors = String::new();
        for (pool, code) in pools {
            let lifecycle = if pool.spot == Some(true) {
                "spot"
            } else {
                "on-demand"
            };
            errors += "<item><launchTemplateAndOverrides><overrides>";
            for (name, value) in [
                ("instanceType", &pool.instance_type),
                ("availabilityZone", &pool.zone),
            ] {
                if let Some(value) = value {
                    for part in ["<", name, ">", value, "</", name, ">"] {
                        errors += part;
                    }
                }
            }
            errors += "</overrides></launchTemplateAndOverrides><lifecycle>";
            errors += lifecycle;
            errors += "</lifecycle><errorCode>";
            errors += code;
            errors += "</errorCode><errorMessage>Nothing there.</errorMessage></item>";
        }
        errors
    }

    /// The answer to an instant fleet, with what it says of pools that gave
    /// nothing though others did.
    fn with_fleet_errors(self, errors: &str) -> Self {
        if errors.is_empty() || !self.is_good() {
            return self;
        }
        let text = xml::with_content(&self.text(), "errorSet", "");
        let text = text
            .replace("<errorSet/>", "")
            .replace("<errorSet></errorSet>", "");
        let end = format!("<errorSet>{errors}</errorSet></CreateFleetResponse>");
        self.with_text(text.replace("</CreateFleetResponse>", &end))
    }

    fn is_good(&self) -> bool {
        self.status.is_success()
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn with_text(mut self, text: String) -> Self {
        self.body = text.into();
        self
    }
}

/// One call, as the proxy saw it.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// With `+page` for the pages after the first.
    pub(crate) name: String,
    pub(crate) fleet: Option<String>,
    pub(crate) fault: Option<Fault>,
    /// The size that a group is told to have.
    pub(crate) desired: Option<u64>,
}

/// What the tests and the proxy's thread share.
struct Shared {
    world: World,
    groups: Groups,
    faults: Faults,
    journal: Vec<Entry>,
    guard: Option<Guard>,
}

/// Who asks may do what a policy allows, and nothing else. Dry runs are answered
/// as EC2 answers them, which not every server does.
pub(crate) struct Guard {
    pub(crate) account: Account,
    pub(crate) policy: Policy,
    /// What was refused.
    pub(crate) denied: Vec<Need>,
    /// All that was asked of the policy.
    pub(crate) asked: BTreeSet<Need>,
}

struct Inner {
    server: SocketAddr,
    shared: Mutex<Shared>,
    /// One launch after the other, so that a token is either new or settled.
    launching: tokio::sync::Mutex<()>,
}

/// A running proxy. It is gone when this is dropped.
pub(crate) struct Proxy {
    address: SocketAddr,
    inner: Arc<Inner>,
    stop: Option<oneshot::Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// In front of `server`; what it draws, it draws from `seed`.
    pub(crate) fn start(server: &Server, seed: u64) -> Self {
        let subnets = server.look("subnets", &serde_json::Value::Null);
        let subnets = serde_json::from_value(subnets).expect("zones by subnet");
        let inner = Arc::new(Inner {
            server: server.address(),
            shared: Mutex::new(Shared {
                world: World::new(subnets),
                groups: Groups::default(),
                faults: Faults::new(seed),
                journal: Vec::new(),
                guard: None,
            }),
            launching: tokio::sync::Mutex::new(()),
        });
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        listener.set_nonblocking(true).expect("a socket");
        let address = listener.local_addr().expect("bound");
        let (stop, until) = oneshot::channel();
        let handler = Arc::clone(&inner);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(serve(listener, handler, until));
        });
        Self {
            address,
            inner,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Changes how EC2 behaves.
    pub(crate) fn world<T>(&self, change: impl FnOnce(&mut World) -> T) -> T {
        change(&mut self.inner.shared().world)
    }

    /// Changes how Auto Scaling behaves.
    pub(crate) fn groups<T>(&self, change: impl FnOnce(&mut Groups) -> T) -> T {
        change(&mut self.inner.shared().groups)
    }

    /// Changes what goes wrong.
    pub(crate) fn faults<T>(&self, change: impl FnOnce(&mut Faults) -> T) -> T {
        change(&mut self.inner.shared().faults)
    }

    /// Changes what may be done; without a guard that is everything.
    pub(crate) fn guard<T>(&self, change: impl FnOnce(&mut Option<Guard>) -> T) -> T {
        change(&mut self.inner.shared().guard)
    }

    /// All calls so far.
    pub(crate) fn journal(&self) -> Vec<Entry> {
        self.inner.shared().journal.clone()
    }

    /// How many calls of that name there were, whatever became of them.
    pub(crate) fn calls(&self, name: &str) -> usize {
        let shared = self.inner.shared();
        shared
            .journal
            .iter()
            .filter(|entry| entry.name == name)
            .count()
    }

    /// Calls by fleet and name.
    pub(crate) fn counts(&self) -> BTreeMap<(Option<String>, String), usize> {
        let mut counts = BTreeMap::new();
        for entry in &self.inner.shared().journal {
            *counts
                .entry((entry.fleet.clone(), entry.name.clone()))
                .or_default() += 1;
        }
        counts
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported there.
            let _ = thread.join();
        }
    }
}

async fn serve(
    listener: std::net::TcpListener,
    inner: Arc<Inner>,
    mut until: oneshot::Receiver<Infallible>,
) {
    let listener = TcpListener::from_std(listener).expect("a listener");
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = &mut until => return,
        };
        let Ok((stream, _)) = accepted else { continue };
        let inner = Arc::clone(&inner);
        tokio::spawn(async move {
            let answer = service_fn(|request| inner.handle(request));
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), answer);
            // A broken connection is what some tests are about.
            let _ = connection.await;
        });
    }
}

/// The connection is to break: hyper closes it on any error of a service.
#[derive(Debug, thiserror::Error)]
#[error("broken on purpose")]
struct Broken;

impl Inner {
    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().expect("nobody panics in here")
    }

    async fn handle(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Broken> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map_err(|_| Broken)?.to_bytes();
        let mut call = Call::read(&parts, &body);
        let fault = self.take_down(&mut call);
        let answer = match fault {
            Some(Fault::LoseRequest) => return Err(Broken),
            Some(Fault::Throttle) => throttled(call.protocol),
            Some(Fault::Deny(code)) => Answer::refusal(call.protocol, 403, code, "AWS says no"),
            Some(Fault::Unavailable) => {
                let message = "An internal error has occurred";
                Answer::refusal(call.protocol, 500, "InternalError", message)
            }
            _ => {
                if let Some(refusal) = self.guarded(&parts, &body, &call).await? {
                    refusal
                } else {
                    let stale = fault == Some(Fault::Stale);
                    self.answer(&parts, body, &call, stale).await?
                }
            }
        };
        match fault {
            Some(Fault::LoseAnswer) => return Err(Broken),
            Some(Fault::Delay(span)) => tokio::time::sleep(span).await,
            _ => {}
        }
        let mut body = answer.body;
        if fault == Some(Fault::Cut) {
            body.truncate(body.len() / 2);
        }
        let mut response = Response::new(Full::new(body));
        *response.status_mut() = answer.status;
        *response.headers_mut() = answer.headers;
        Ok(response)
    }

    /// What the guard says instead of the server.
    async fn guarded(
        &self,
        parts: &Parts,
        body: &Bytes,
        call: &Call,
    ) -> Result<Option<Answer>, Broken> {
        if self.shared().guard.is_none() {
            return Ok(None);
        }
        let mut named = call.instances.clone();
        named.extend(call::numbered(&call.form, "ResourceId"));
        named.extend(call.field("InstanceId").map(str::to_owned));
        let mut tags = Tags::new();
        for instance in named {
            tags.insert(instance.clone(), self.tags_of(parts, &instance).await?);
        }
        let mut shared = self.shared();
        let Some(guard) = &mut shared.guard else {
            return Ok(None);
        };
        let needs = guard.account.needs(call, body, &tags);
        guard.asked.extend(needs.iter().cloned());
        if let Some(need) = guard.policy.denied(&needs) {
            let code = match call.protocol {
                Protocol::Ec2 => "UnauthorizedOperation",
                Protocol::Query | Protocol::Cbor => "AccessDenied",
                Protocol::Json => "AccessDeniedException",
            };
            let Need {
                action, resource, ..
            } = need;
            let message = format!(
                "User: arn:aws:iam::{}:user/windlass is not authorized to perform: {action} on \
                 resource: {resource} because no identity-based policy allows the {action} action",
                guard.account.id
            );
            guard.denied.push(need.clone());
            return Ok(Some(Answer::refusal(call.protocol, 403, code, &message)));
        }
        let dry = call.field("DryRun") == Some("true");
        Ok(dry.then(|| {
            let message = "Request would have succeeded, but DryRun flag is set.";
            Answer::refusal(call.protocol, 412, "DryRunOperation", message)
        }))
    }

    /// The tags the server has of an instance.
    async fn tags_of(
        &self,
        parts: &Parts,
        instance: &str,
    ) -> Result<BTreeMap<String, String>, Broken> {
        let form = [
            ("Action", "DescribeInstances"),
            ("Version", "2016-11-15"),
            ("InstanceId.1", instance),
        ];
        let form = form.map(|(name, value)| (name.to_owned(), value.to_owned()));
        // Servers know a service by what the request is signed for.
        let mut parts = parts.clone();
        let signed = parts.headers.get(AUTHORIZATION);
        let signed = signed.and_then(|value| value.to_str().ok());
        let signed = signed.unwrap_or_default().replace("/autoscaling/", "/ec2/");
        let signed = HeaderValue::from_str(&signed).map_err(|_| Broken)?;
        parts.headers.insert(AUTHORIZATION, signed);
        let answer = self.forward(&parts, encoded(&form.to_vec())).await?.text();
        let set = xml::content(&answer, "tagSet").unwrap_or_default();
        let tags = xml::items(set).into_iter().filter_map(|item| {
            let key = xml::content(item, "key")?.to_owned();
            Some((key, xml::content(item, "value")?.to_owned()))
        });
        Ok(tags.collect())
    }

    /// Writes the call down; what will go wrong with it.
    fn take_down(&self, call: &mut Call) -> Option<Fault> {
        let now = Instant::now();
        let mut shared = self.shared();
        if call.fleet.is_none() {
            let known = call.instances.iter();
            let mut known = known.filter_map(|id| shared.world.launched.get(id));
            call.fleet = known.find_map(|launched| launched.fleet.clone());
        }
        let fault = shared.faults.draw(&call.name(), now);
        shared.journal.push(Entry {
            name: call.name(),
            fleet: call.fleet.clone(),
            fault,
            desired: call.number("DesiredCapacity"),
        });
        fault
    }

    async fn answer(
        &self,
        parts: &Parts,
        body: Bytes,
        call: &Call,
        stale: bool,
    ) -> Result<Answer, Broken> {
        if call.protocol == Protocol::Query {
            return self.of_groups(parts, body, call, stale).await;
        }
        if call.protocol != Protocol::Ec2 {
            return self.forward(parts, body).await;
        }
        match call.action.as_str() {
            "RunInstances" | "CreateFleet" => self.launch(parts, call).await,
            "TerminateInstances" => {
                let answer = self.forward(parts, body).await?;
                Ok(self.shared().world.ended(call, answer, Instant::now()))
            }
            "DescribeInstances" => self.list(parts, call, stale).await,
            "DescribeInstanceStatus" => {
                let answer = self.forward(parts, body).await?;
                Ok(self.shared().world.checked(answer, Instant::now()))
            }
            "DescribeSpotPriceHistory" => {
                let told = self.shared().world.spot_prices(call);
                match told {
                    Some(answer) => Ok(answer),
                    None => self.forward(parts, body).await,
                }
            }
            _ => self.forward(parts, body).await,
        }
    }

    /// A call of Auto Scaling.
    async fn of_groups(
        &self,
        parts: &Parts,
        body: Bytes,
        call: &Call,
        stale: bool,
    ) -> Result<Answer, Broken> {
        if call.action == "DescribeInstanceRefreshes" {
            return Ok(self.shared().groups.refreshes());
        }
        let answer = self.forward(parts, body).await?;
        if call.action != "DescribeAutoScalingGroups" {
            return Ok(answer);
        }
        let groups = &mut self.shared().groups;
        Ok(groups.listing(call, answer, stale, Instant::now()))
    }

    async fn launch(&self, parts: &Parts, call: &Call) -> Result<Answer, Broken> {
        let _alone = self.launching.lock().await;
        let grant = {
            let mut shared = self.shared();
            if let Some(answer) = shared.world.repeated(call) {
                return Ok(answer);
            }
            shared.world.grant(call)
        };
        match grant {
            Grant::Refuse(answer) => Ok(answer),
            Grant::Forward(form, pool, lacking) => {
                let answer = self.forward(parts, encoded(&form)).await?;
                let answer = answer.with_fleet_errors(&Answer::fleet_errors(&lacking));
                let now = Instant::now();
                Ok(self.shared().world.launched(call, &pool, answer, now))
            }
        }
    }

    async fn list(&self, parts: &Parts, call: &Call, stale: bool) -> Result<Answer, Broken> {
        if let Some(token) = call.field("NextToken") {
            return Ok(self.shared().world.next_page(call, token));
        }
        let (form, states) = World::whole_listing(call);
        let answer = self.forward(parts, encoded(&form)).await?;
        if !answer.is_good() {
            return Ok(answer);
        }
        let world = &mut self.shared().world;
        let listed = world.listing(call, &answer, states.as_ref(), stale, Instant::now());
        Ok(world.first_page(call, listed))
    }

    /// The server's own answer.
    async fn forward(&self, parts: &Parts, body: Bytes) -> Result<Answer, Broken> {
        let stream = TcpStream::connect(self.server).await.map_err(|_| Broken)?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|_| Broken)?;
        tokio::spawn(connection);
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = parts.method.clone();
        *request.uri_mut() = parts.uri.clone();
        *request.headers_mut() = parts.headers.clone();
        // Told anew from the body that is really sent.
        request.headers_mut().remove(CONTENT_LENGTH);
        request.headers_mut().remove(TRANSFER_ENCODING);
        let response = sender.send_request(request).await.map_err(|_| Broken)?;
        let (head, body) = response.into_parts();
        let body = body.collect().await.map_err(|_| Broken)?.to_bytes();
        let mut headers = head.headers;
        headers.remove(CONTENT_LENGTH);
        headers.remove(TRANSFER_ENCODING);
        headers.remove("x-amzn-requestid");
        Ok(Answer {
            status: head.status,
            headers,
            body,
        })
    }
}

fn encoded(form: &call::Form) -> Bytes {
    let mut body = form_urlencoded::Serializer::new(String::new());
    body.extend_pairs(form);
    body.finish().into()
}

/// How each service says that there were too many requests.
fn throttled(protocol: Protocol) -> Answer {
    let (status, code) = match protocol {
        Protocol::Ec2 => (503, "RequestLimitExceeded"),
        Protocol::Query => (400, "Throttling"),
        Protocol::Json => (400, "RequestThrottled"),
        Protocol::Cbor => (400, "ThrottlingException"),
    };
    Answer::refusal(protocol, status, code, "Request limit exceeded.")
}

/// A span that is over in no time here and long for a client.
pub(crate) const LATE: Duration = Duration::from_millis(300);
