//! What a policy needs so that a sidecar can serve by it, beyond what makes it a proper policy.
//!
//! An empty file is a proper policy, and for a library one that has only services is all there is to say. To a sidecar
//! it would mean to close the door, and such a file is hardly ever meant: it is one that somebody is just writing, or
//! half of one. So whoever begins to serve, or puts another policy in force, looks here first.

use service_mesh::PolicyFile;

/// Whether a request could come in, and go anywhere.
///
/// # Errors
/// What is missing, and how it could look.
pub(crate) fn check(policy: &PolicyFile) -> Result<(), &'static str> {
    if policy.listeners.is_empty() {
        return Err("has no listener; one would be [listeners.web] with address = \"127.0.0.1:8080\"");
    }
    match (policy.routes.is_empty(), policy.services.len()) {
        (true, 0) => Err("has no service, so that no request could go anywhere; one would be [services.NAME]"),
        // One service needs no route.
        (false, _) | (true, 1) => Ok(()),
        (true, _) => Err("has several services and no route to any; one would be [[routes]] with service = \"NAME\""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_must_be_able_to_come_in_and_to_go_somewhere() {
        let listener = "[listeners.web]\naddress = '127.0.0.1:0'\n";
        let route = "[[routes]]\nservice = 'b'\n";
        for (text, missing) in [
            (String::new(), Some("no listener")),
            (format!("[services.a]\n[services.b]\n{route}"), Some("no listener")),
            (String::from(listener), Some("no service")),
            (format!("{listener}[services.a]\n[services.b]"), Some("no route")),
            (format!("{listener}[services.a]"), None),
            (format!("{listener}[services.a]\n[services.b]\n{route}"), None),
        ] {
            let checked = check(&service_mesh::read_policy_file(&text).unwrap());
            match missing {
                Some(missing) => assert!(checked.unwrap_err().contains(missing), "{text}"),
                None => assert_eq!(checked, Ok(()), "{text}"),
            }
        }
    }
}
