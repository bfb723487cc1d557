//! What a request asks for: enough of every protocol to know it.

use hyper::body::Bytes;
use hyper::http::request::Parts;

/// The fields of a request in the query protocol, in their order.
pub(crate) type Form = Vec<(String, String)>;

/// How a service speaks, which is how it has to be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// EC2: forms in, XML out.
    Ec2,
    /// Auto Scaling: forms in, another XML out.
    Query,
    /// SQS.
    Json,
    /// `CloudWatch`.
    Cbor,
}

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) protocol: Protocol,
    pub(crate) action: String,
    /// Empty unless the protocol has forms.
    pub(crate) form: Form,
    /// What the request says of its fleet: the value of a tag whose key ends in
    /// `fleet`, as a filter or of what is to be launched.
    pub(crate) fleet: Option<String>,
    /// Instances it names.
    pub(crate) instances: Vec<String>,
}

impl Call {
    pub(crate) fn read(parts: &Parts, body: &Bytes) -> Self {
        let header = |name: &str| {
            let value = parts.headers.get(name)?;
            value.to_str().ok()
        };
        let blank = |protocol, action: &str| Self {
            protocol,
            action: action.to_owned(),
            form: Form::new(),
            fleet: None,
            instances: Vec::new(),
        };
        if let Some(target) = header("x-amz-target") {
            let action = target.rsplit('.').next().unwrap_or(target);
            return blank(Protocol::Json, action);
        }
        if header("smithy-protocol").is_some() {
            let action = parts.uri.path().rsplit('/').next().unwrap_or_default();
            return blank(Protocol::Cbor, action);
        }
        let form: Form = form_urlencoded::parse(body).into_owned().collect();
        let action = field(&form, "Action").unwrap_or_default().to_owned();
        // "Credential=KEY/DATE/REGION/SERVICE/aws4_request"
        let ec2 = header("authorization").is_some_and(|signed| signed.contains("/ec2/"));
        let protocol = if ec2 { Protocol::Ec2 } else { Protocol::Query };
        Self {
            fleet: fleet(&form),
            instances: numbered(&form, "InstanceId"),
            form,
            ..blank(protocol, &action)
        }
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        field(&self.form, name)
    }

    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.field(name)?.parse().ok()
    }

    /// By what faults and counts know it: the pages after the first are calls of
    /// their own.
    pub(crate) fn name(&self) -> String {
        let page = if self.field("NextToken").is_some() {
            "+page"
        } else {
            ""
        };
        format!("{}{page}", self.action)
    }

    /// What two requests with one token have to agree in.
    pub(crate) fn parameters(&self) -> Form {
        let mut parameters = self.form.clone();
        parameters.retain(|(name, _)| name != "ClientToken");
        parameters.sort();
        parameters
    }
}

pub(crate) fn field<'a>(form: &'a Form, name: &str) -> Option<&'a str> {
    let (_, value) = form.iter().find(|(key, _)| key == name)?;
    Some(value)
}

/// `NAME.1`, `NAME.2` and so on.
pub(crate) fn numbered(form: &Form, name: &str) -> Vec<String> {
    (1..)
        .map_while(|index| field(form, &format!("{name}.{index}")))
        .map(str::to_owned)
        .collect()
}

/// `form` with `name` set to `value`, or without it.
pub(crate) fn with(form: &Form, name: &str, value: Option<String>) -> Form {
    let mut form = form.clone();
    form.retain(|(key, _)| key != name);
    form.extend(value.map(|value| (name.to_owned(), value)));
    form
}

fn fleet(form: &Form) -> Option<String> {
    let names_a_fleet = |key: &str| key.ends_with("fleet");
    form.iter().find_map(|(key, value)| {
        let filter = key.starts_with("Filter.") && key.ends_with(".Name");
        if filter && value.starts_with("tag:") && names_a_fleet(value) {
            return field(form, &key.replace(".Name", ".Value.1")).map(str::to_owned);
        }
        let tag = key.starts_with("TagSpecification.") && key.ends_with(".Key");
        if tag && names_a_fleet(value) {
            return field(form, &key.replace(".Key", ".Value")).map(str::to_owned);
        }
        None
    })
}

/// The refusal of a call as its service words it.
pub(crate) fn refusal(protocol: Protocol, code: &str, message: &str) -> (&'static str, Vec<u8>) {
    match protocol {
        Protocol::Ec2 => (
            "text/xml",
            format!(
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Response><Errors><Error>\
                 <Code>{code}</Code><Message>{message}</Message></Error></Errors>\
                 <RequestID>proxy</RequestID></Response>"
            )
            .into_bytes(),
        ),
        Protocol::Query => (
            "text/xml",
            format!(
                "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code>\
                 <Message>{message}</Message></Error><RequestId>proxy</RequestId></ErrorResponse>"
            )
            .into_bytes(),
        ),
        Protocol::Json => (
            "application/x-amz-json-1.0",
            serde_json::json!({ "__type": code, "message": message })
                .to_string()
                .into_bytes(),
        ),
        Protocol::Cbor => (
            "application/cbor",
            cbor_map(&[("__type", code), ("message", message)]),
        ),
    }
}

/// A CBOR map of short texts (RFC 8949, section 3).
fn cbor_map(pairs: &[(&str, &str)]) -> Vec<u8> {
    let short = |length: usize| u8::try_from(length).expect("short");
    let mut bytes = vec![0xa0 + short(pairs.len())];
    for text in pairs.iter().flat_map(|(key, value)| [key, value]) {
        bytes.extend([0x78, short(text.len())]);
        bytes.extend(text.as_bytes());
    }
    bytes
}
