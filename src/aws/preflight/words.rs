//! What AWS says when it refuses, and what to do about it.

use std::error::Error;

use aws_sdk_ec2::config::http::HttpResponse;
use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};
use windlass_policies::model::FleetError;

use crate::aws::errors::{Call, fleet_error, told};
use crate::config::ec2::LaunchFrom;

/// The code and the message of a refusal, in one line.
pub(super) fn of_aws<E>(error: &SdkError<E, HttpResponse>) -> Option<String>
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let refusal = error.as_service_error()?;
    let code = refusal.code()?;
    let message = refusal.message().unwrap_or_default();
    Some(told(&format!("{code}: {message}")))
}

/// The action that AWS says was denied, which need not be the one asked for: a
/// launch may lack `iam:PassRole`.
pub(super) fn denied_action(told: &str) -> Option<&str> {
    let (_, rest) = told.split_once("to perform: ")?;
    let end =
        rest.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != ':' && letter != '-');
    let action = &rest[..end.unwrap_or(rest.len())];
    action.contains(':').then_some(action)
}

/// Why nobody could be found out to be asking, and what to do.
pub(super) fn nobody<E>(error: &SdkError<E, HttpResponse>, region: &str) -> String
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let told = fleet_error(Call::Reads, error);
    let code = error.code().unwrap_or_default();
    let advice = match told {
        // It was answered, and not by AWS.
        FleetError::NotPermitted(_) if code.is_empty() && error.raw_response().is_some() => {
            format!("AWS does not know this key, or not in region {region}")
        }
        FleetError::Rejected(_) if code.is_empty() => {
            "what answers there does not speak as AWS does; look at `endpoint_url` in [aws]"
                .to_owned()
        }
        _ => return told.to_string(),
    };
    format!("{told}; {advice}")
}

/// What refused launches are about, by their code or message, and the key that
/// has it; from an image, unless it says otherwise.
const KEYS_OF_IMAGE: [(&str, &str); 9] = [
    ("InvalidAMIID", "image"),
    ("InvalidGroup", "security_groups"),
    ("InvalidSecurityGroup", "security_groups"),
    ("InvalidKeyPair", "key_name"),
    ("iamInstanceProfile", "instance_profile"),
    ("Instance Profile", "instance_profile"),
    ("InvalidIamInstanceProfile", "instance_profile"),
    ("NoSuchEntity", "instance_profile"),
    ("user data", "user_data_file"),
];

/// The same, whatever is launched from.
const KEYS: [(&str, &str); 3] = [
    ("InvalidSubnet", "subnets"),
    ("InvalidInstanceType", "offering"),
    ("InstanceType", "offering"),
];

/// The key of `[fleet.NAME.ec2]` that a refused launch is about, by the code
/// and message of the refusal, if that can be told. What a template names is
/// the template's.
pub(super) fn key_of(refusal: &str, from: &LaunchFrom) -> Option<&'static str> {
    let among = |keys: &[(&str, &'static str)]| {
        let found = keys.iter().find(|(part, _)| refusal.contains(part));
        found.map(|(_, key)| *key)
    };
    let of_launch = match from {
        LaunchFrom::Template { .. } if refusal.contains("LaunchTemplate") => {
            Some("launch_template")
        }
        LaunchFrom::Template { .. } => among(&KEYS_OF_IMAGE).map(|_| "launch_template"),
        LaunchFrom::Image { .. } => among(&KEYS_OF_IMAGE),
    };
    of_launch.or_else(|| among(&KEYS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_denied_action_is_the_one_aws_names() {
        for (told, action) in [
            (
                "UnauthorizedOperation: You are not authorized to perform this operation. User: \
                 arn:aws:iam::1:user/w is not authorized to perform: iam:PassRole on resource: \
                 arn:aws:iam::1:role/x because no identity-based policy allows it",
                Some("iam:PassRole"),
            ),
            (
                "AccessDenied: User: w is not authorized to perform: \
                 elasticloadbalancing-x:Describe-It.",
                Some("elasticloadbalancing-x:Describe-It"),
            ),
            (
                "UnauthorizedOperation: You are not authorized to perform this operation.",
                None,
            ),
        ] {
            assert_eq!(denied_action(told), action);
        }
    }

    #[test]
    fn a_refused_launch_points_at_its_key() {
        let image = LaunchFrom::Image {
            image: "ami-1".to_owned(),
            security_groups: Vec::new(),
            key_name: None,
            instance_profile: None,
            user_data: None,
        };
        let template = LaunchFrom::Template {
            template: "lt-1".to_owned(),
            version: "1".to_owned(),
        };
        for (refusal, of_image, of_template) in [
            ("InvalidAMIID.NotFound: no", "image", "launch_template"),
            ("InvalidSubnetID.NotFound: no", "subnets", "subnets"),
            (
                "InvalidGroup.NotFound: no",
                "security_groups",
                "launch_template",
            ),
            ("InvalidKeyPair.NotFound: no", "key_name", "launch_template"),
            (
                "InvalidParameterValue: Value (x) for parameter iamInstanceProfile.name is \
                 invalid. Invalid IAM Instance Profile name",
                "instance_profile",
                "launch_template",
            ),
            (
                "InvalidParameterValue: Invalid value 'x' for InstanceType.",
                "offering",
                "offering",
            ),
        ] {
            assert_eq!(key_of(refusal, &image), Some(of_image), "{refusal}");
            assert_eq!(key_of(refusal, &template), Some(of_template), "{refusal}");
        }
        let other = "InvalidLaunchTemplateName.NotFoundException: no";
        assert_eq!(key_of(other, &template), Some("launch_template"));
        assert_eq!(key_of("OptInRequired: pay", &image), None);
    }
}
