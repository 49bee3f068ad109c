package shop;

import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.events.APIGatewayProxyRequestEvent;
import com.amazonaws.services.lambda.runtime.events.APIGatewayProxyResponseEvent;
import com.amazonaws.services.lambda.runtime.events.APIGatewayV2HTTPEvent;
import com.amazonaws.services.lambda.runtime.events.DynamodbEvent;
import com.amazonaws.services.lambda.runtime.events.KinesisEvent;
import com.amazonaws.services.lambda.runtime.events.S3Event;
import com.amazonaws.services.lambda.runtime.events.SNSEvent;
import com.amazonaws.services.lambda.runtime.events.SQSBatchResponse;
import com.amazonaws.services.lambda.runtime.events.SQSEvent;
import com.amazonaws.services.lambda.runtime.events.ScheduledEvent;
import com.amazonaws.services.lambda.runtime.events.models.s3.S3EventNotification.S3EventNotificationRecord;
import java.nio.charset.StandardCharsets;
import java.util.Collections;

/** AWS's own event classes, from the registry. */
public class Events {
    public APIGatewayProxyResponseEvent gateway(APIGatewayProxyRequestEvent event, Context context) {
        return new APIGatewayProxyResponseEvent().withStatusCode(200)
                .withHeaders(Collections.singletonMap("X-Path", event.getPath()))
                .withBody(event.getRequestContext().getIdentity().getSourceIp()
                        + event.getQueryStringParameters().get("q") + event.getIsBase64Encoded());
    }

    public String http(APIGatewayV2HTTPEvent event) {
        return event.getRequestContext().getHttp().getMethod() + event.getRawPath() + event.getIsBase64Encoded();
    }

    public SQSBatchResponse sqs(SQSEvent event) {
        SQSEvent.SQSMessage message = event.getRecords().get(0);
        return new SQSBatchResponse(Collections.singletonList(new SQSBatchResponse.BatchItemFailure(
                message.getMessageId() + message.getEventSourceArn()
                        + message.getMessageAttributes().get("a").getStringValue())));
    }

    public SQSEvent sqsBack(SQSEvent event) {
        return event;
    }

    public String sns(SNSEvent event) {
        SNSEvent.SNSRecord record = event.getRecords().get(0);
        return record.getEventSource() + record.getSNS().getMessage() + record.getSNS().getTimestamp().getYear()
                + record.getSNS().getMessageAttributes().get("a").getValue();
    }

    public String s3(S3Event event) {
        S3EventNotificationRecord record = event.getRecords().get(0);
        return record.getS3().getBucket().getName() + "/" + record.getS3().getObject().getKey()
                + record.getS3().getObject().getSizeAsLong() + record.getEventTime().getYear()
                + record.getResponseElements().getxAmzId2() + record.getUserIdentity().getPrincipalId();
    }

    public String dynamodb(DynamodbEvent event) {
        DynamodbEvent.DynamodbStreamRecord record = event.getRecords().get(0);
        return record.getEventName() + record.getDynamodb().getKeys().get("id").getN()
                + record.getDynamodb().getNewImage().get("tags").getSS()
                + record.getDynamodb().getNewImage().get("on").getBOOL()
                + record.getDynamodb().getApproximateCreationDateTime().getTime() + record.getEventSourceARN();
    }

    public String kinesis(KinesisEvent event) {
        KinesisEvent.Record record = event.getRecords().get(0).getKinesis();
        return StandardCharsets.UTF_8.decode(record.getData())
                + "@" + record.getApproximateArrivalTimestamp().getTime();
    }

    public String scheduled(ScheduledEvent event) {
        return event.getDetailType() + event.getTime().getYear() + event.getDetail().get("x");
    }
}
