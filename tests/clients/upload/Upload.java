// Uploads with Java's HttpURLConnection, which sends the whole body before it reads: Upload.java URL CA BYTES COUNT. With
// a fifth argument `h2`: uploads over HTTP/2 with Java's HttpClient.
// Prints the status or the error of each upload.

import java.io.FileInputStream;
import java.io.IOException;
import java.net.HttpURLConnection;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.time.Duration;
import javax.net.ssl.HttpsURLConnection;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

class Upload {
    public static void main(String[] args) throws Exception {
        var store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null);
        try (var file = new FileInputStream(args[1])) {
            store.setCertificateEntry("ca", CertificateFactory.getInstance("X.509").generateCertificate(file));
        }
        var trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(store);
        var context = SSLContext.getInstance("TLS");
        context.init(null, trust.getTrustManagers(), null);
        var body = new byte[Integer.parseInt(args[2])];
        if (args.length > 4 && args[4].equals("h2")) {
            http2(URI.create(args[0]), context, body, Integer.parseInt(args[3]));
            return;
        }
        for (int i = 0; i < Integer.parseInt(args[3]); i++) {
            var connection = (HttpURLConnection) URI.create(args[0]).toURL().openConnection();
            if (connection instanceof HttpsURLConnection encrypted) {
                encrypted.setSSLSocketFactory(context.getSocketFactory());
            }
            connection.setRequestMethod("POST");
            connection.setDoOutput(true);
            connection.setReadTimeout(60_000);
            try (var stream = connection.getOutputStream()) {
                stream.write(body);
                System.out.println(connection.getResponseCode());
            } catch (IOException error) {
                System.out.println(error);
            } finally {
                connection.disconnect();
            }
        }
    }

    private static void http2(URI url, SSLContext context, byte[] body, int count) throws InterruptedException {
        var client = HttpClient.newBuilder().version(HttpClient.Version.HTTP_2).sslContext(context).build();
        var publisher = HttpRequest.BodyPublishers.ofByteArray(body);
        var request = HttpRequest.newBuilder(url).timeout(Duration.ofSeconds(60)).POST(publisher).build();
        for (int i = 0; i < count; i++) {
            try {
                var answer = client.send(request, HttpResponse.BodyHandlers.ofString());
                var wrong = url.getScheme().equals("https") && answer.version() != HttpClient.Version.HTTP_2;
                System.out.println(wrong ? answer : answer.statusCode());
            } catch (IOException error) {
                System.out.println(error);
            }
        }
    }
}
