package kennel.runtime.adapter;

import com.amazonaws.services.lambda.runtime.Client;
import com.amazonaws.services.lambda.runtime.ClientContext;
import com.amazonaws.services.lambda.runtime.CognitoIdentity;
import java.util.Map;
import kennel.runtime.CallerJson;

/** Who invoked, as mobile clients tell it in two headers. Loaded only where an invocation has them. */
final class Caller {
    private Caller() {
    }

    static final class Identity implements CognitoIdentity {
        private final String identityId;
        private final String poolId;

        Identity(String json) {
            Map<String, Object> fields = CallerJson.object(json);
            identityId = CallerJson.text(fields, "cognitoIdentityId");
            poolId = CallerJson.text(fields, "cognitoIdentityPoolId");
        }

        @Override
        public String getIdentityId() {
            return identityId;
        }

        @Override
        public String getIdentityPoolId() {
            return poolId;
        }
    }

    static final class Device implements ClientContext {
        private final Client client;
        private final Map<String, String> custom;
        private final Map<String, String> environment;

        Device(String json) {
            Map<String, Object> fields = CallerJson.object(json);
            Map<String, Object> app = CallerJson.map(fields, "client");
            client = app == null ? null : new App(app);
            custom = CallerJson.texts(fields, "custom");
            environment = CallerJson.texts(fields, "env");
        }

        @Override
        public Client getClient() {
            return client;
        }

        @Override
        public Map<String, String> getCustom() {
            return custom;
        }

        @Override
        public Map<String, String> getEnvironment() {
            return environment;
        }
    }

    static final class App implements Client {
        private final Map<String, Object> fields;

        App(Map<String, Object> fields) {
            this.fields = fields;
        }

        @Override
        public String getInstallationId() {
            return CallerJson.text(fields, "installation_id");
        }

        @Override
        public String getAppTitle() {
            return CallerJson.text(fields, "app_title");
        }

        @Override
        public String getAppVersionName() {
            return CallerJson.text(fields, "app_version_name");
        }

        @Override
        public String getAppVersionCode() {
            return CallerJson.text(fields, "app_version_code");
        }

        @Override
        public String getAppPackageName() {
            return CallerJson.text(fields, "app_package_name");
        }
    }
}
