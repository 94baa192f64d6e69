use service_mesh::with_retry;

struct Client(String);

impl Client {
    #[with_retry]
    fn finish(self) -> Result<String, u32> {
        Ok(self.0)
    }
}

fn main() {
    let _ = Client(String::new()).finish();
}
