// Opens a TLS connection of Java to a relay on this machine, as HOST: Visit.java PORT HOST CA.

import java.io.FileInputStream;
import java.io.IOException;
import java.net.Socket;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLSocket;
import javax.net.ssl.TrustManagerFactory;

class Visit {
    public static void main(String[] args) throws Exception {
        var store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null);
        try (var file = new FileInputStream(args[2])) {
            store.setCertificateEntry("ca", CertificateFactory.getInstance("X.509").generateCertificate(file));
        }
        var trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(store);
        var context = SSLContext.getInstance("TLS");
        context.init(null, trust.getTrustManagers(), null);
        var plain = new Socket("127.0.0.1", Integer.parseInt(args[0]));
        try (var socket = (SSLSocket) context.getSocketFactory().createSocket(plain, args[1], plain.getPort(), true)) {
            var parameters = socket.getSSLParameters();
            parameters.setEndpointIdentificationAlgorithm("HTTPS");
            socket.setSSLParameters(parameters);
            socket.startHandshake();
            System.out.println("accepted");
        } catch (IOException error) {
            System.err.println("refused: " + error);
            System.exit(1);
        }
    }
}
