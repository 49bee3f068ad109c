// A function for AWS's own Node client.
'use strict';

exports.handler = async (event, context) => {
  if (event.fail) throw new RangeError(event.fail);
  return {
    hello: event.name,
    client: 'node',
    arn: context.invokedFunctionArn,
    request_id: context.awsRequestId,
  };
};
