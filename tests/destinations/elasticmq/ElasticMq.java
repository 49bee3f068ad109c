import org.elasticmq.rest.sqs.SQSRestServerBuilder;

/** A queue that speaks SQS, on loopback, until standard input ends. */
class ElasticMq {
    public static void main(String[] args) throws Exception {
        var server = SQSRestServerBuilder.withInterface("127.0.0.1").withDynamicPort()
            .withAWSRegion("us-east-1").withAWSAccountId("000000000000").start();
        System.out.println("{\"port\":" + server.waitUntilStarted().localAddress().getPort() + "}");
        System.out.flush();
        while (System.in.read() >= 0) {}
        System.exit(0);
    }
}
