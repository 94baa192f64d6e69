//! The policy of a command line: `NAME=HOST:PORT,HOST:PORT`, for the first ten seconds.

use std::fmt::Write as _;

use service_mesh::{ConfigError, ListenAddress};

/// Writes the policy file that the command line stands for: a listener for each address, a service for each
/// `NAME=HOST:PORT[,HOST:PORT…]`. With one service everything goes to it. With several, a request goes to the one that
/// its path names first: `/users/7` to `users`, as `/users/7`.
///
/// # Errors
/// The word that is no service, and how one is written.
pub fn quick_policy(listen: &[String], services: &[String]) -> Result<String, String> {
    let mut text = String::new();
    for (number, address) in (1..).zip(listen) {
        let place: ListenAddress = address.parse().map_err(|error: ConfigError| error.to_string())?;
        let address = place.to_string();
        let _ = writeln!(text, "[listeners.listen-{number}]\naddress = {}", quoted(&address));
    }
    for word in services {
        let wrong = || format!("{word:?} is no service; write NAME=HOST:PORT,HOST:PORT");
        let (name, instances) = word.split_once('=').ok_or_else(wrong)?;
        let _ = writeln!(text, "[services.{}]\ninstances = [", quoted(name));
        for address in instances.split(',') {
            let (host, port) = address.trim().rsplit_once(':').ok_or_else(wrong)?;
            let host = host.trim_start_matches('[').trim_end_matches(']');
            let port: u16 = port.parse().map_err(|_| wrong())?;
            if name.is_empty() || host.is_empty() {
                return Err(wrong());
            }
            let id = quoted(address.trim());
            let _ = writeln!(text, "    {{ id = {id}, host = {}, port = {port} }},", quoted(host));
        }
        let prefix = if services.len() == 1 { String::from("/") } else { format!("/{name}") };
        let _ = writeln!(text, "]\n[[routes]]\nservice = {}\npath_prefix = {}", quoted(name), quoted(&prefix));
    }
    Ok(text)
}

/// A TOML string. JSON's escapes are a part of TOML's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn services(words: &[&str]) -> Result<String, String> {
        quick_policy(&[], &words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn words_become_a_policy() {
        let text = services(&["api=127.0.0.1:9001,[::1]:9002", "web=localhost:80"]).unwrap();
        let policy = service_mesh::read_policy_file(&text).unwrap();
        let addresses = policy.services["api"].instances.iter().map(service_mesh::ServiceInstance::address);
        assert!(addresses.eq(["127.0.0.1:9001", "[::1]:9002"]));
        assert_eq!(policy.routes[1].path_prefix, "/web");
    }

    #[test]
    fn a_word_that_is_no_service_is_told() {
        for word in ["api", "api=", "=127.0.0.1:80", "api=127.0.0.1", "api=127.0.0.1:http", "api=:80"] {
            assert!(services(&[word]).unwrap_err().contains("NAME=HOST:PORT"), "{word}");
        }
    }
}
