"""The registry of audited events: stored names `resource.verb`, each with its access, category and verb. Never
renamed.

Every API operation is an event, reads included. The class (read or write), the category and the action that filters
offer come from here, so each event is in exactly one of each.
"""

from dataclasses import dataclass
from enum import StrEnum


class Access(StrEnum):
    READ = "read"
    WRITE = "write"


class Category(StrEnum):
    USERS = "Users"
    TELEPHONY = "Telephony"
    LOCATIONS = "Locations"
    PHONES = "Phones"
    PROVISIONING = "Provisioning"
    EMERGENCY = "Emergency"
    SETTINGS = "Settings"
    SECURITY = "Security"
    INTEGRATIONS = "Integrations"
    AUDIT = "Audit"
    BULK = "Bulk operations"  # one change to many rows; what it does to each row is in that row's own category


class Event(StrEnum):
    ACCOUNT_CREATE = "account.create"
    ACCOUNT_READ = "account.read"
    ACCOUNT_UPDATE = "account.update"
    HOME_READ = "home.read"
    MAIL_SETTINGS_READ = "mail_settings.read"
    MAIL_SETTINGS_UPDATE = "mail_settings.update"
    MAIL_SETTINGS_TEST = "mail_settings.test"
    BRANDING_READ = "branding.read"
    BRANDING_UPDATE = "branding.update"
    STORAGE_SETTINGS_READ = "storage_settings.read"
    STORAGE_SETTINGS_UPDATE = "storage_settings.update"
    INTEGRATION_LIST = "integration.list"
    VALIDATION_SETTINGS_READ = "validation_settings.read"
    VALIDATION_SETTINGS_UPDATE = "validation_settings.update"
    VALIDATION_SETTINGS_TEST = "validation_settings.test"
    WEBHOOK_CREATE = "webhook.create"
    WEBHOOK_LIST = "webhook.list"
    WEBHOOK_READ = "webhook.read"
    WEBHOOK_UPDATE = "webhook.update"
    WEBHOOK_DELETE = "webhook.delete"
    WEBHOOK_TEST = "webhook.test"
    WEBHOOK_ROTATE_SECRET = "webhook.rotate_secret"  # a name, no secret
    ALERT_LIST = "alert.list"
    HELP_READ = "help.read"
    FORM_READ = "form.read"
    OPENAPI_READ = "openapi.read"
    UNKNOWN_ROUTE = "route.unknown"

    USER_CREATE = "user.create"
    USER_CREATE_MANY = "user.create_many"
    USER_CHECK = "user.check"
    USER_LIST = "user.list"
    USER_READ = "user.read"
    USER_UPDATE = "user.update"
    USER_DELETE = "user.delete"
    USER_RESET_2FA = "user.reset_2fa"
    PROFILE_READ = "profile.read"
    ACCOUNT_LIST = "account.list"
    OPERATOR_CREATE = "operator.create"
    OPERATOR_ENTER = "operator.enter"
    OPERATOR_LEAVE = "operator.leave"

    INVITATION_CREATE = "invitation.create"
    INVITATION_READ = "invitation.read"
    INVITATION_ACCEPT = "invitation.accept"
    AUTH_LOG_LIST = "auth_log.list"

    SESSION_CREATE = "session.create"
    SESSION_LIST = "session.list"
    SESSION_READ = "session.read"
    SESSION_DELETE = "session.delete"
    SESSION_PROVE = "session.prove"
    SESSION_PRUNE = "session.prune"
    LOGIN_PAGE_READ = "login_page.read"
    SETUP_PAGE_READ = "setup_page.read"
    SIGN_IN_BEGIN = "sign_in.begin"
    SIGN_IN_READ = "sign_in.read"
    SIGN_IN_SEND_CODE = "sign_in.send_code"
    PASSWORD_RESET = "password.reset"
    PASSWORD_CHANGE = "password.change"
    TWO_FACTOR_READ = "two_factor.read"
    TWO_FACTOR_BEGIN = "two_factor.begin"
    TWO_FACTOR_ENROL = "two_factor.enrol"
    TWO_FACTOR_REMOVE = "two_factor.remove"
    TWO_FACTOR_RESET = "two_factor.reset"
    RECOVERY_CODE_CREATE = "recovery_code.create"
    REMEMBERED_DEVICE_LIST = "remembered_device.list"
    REMEMBERED_DEVICE_DELETE = "remembered_device.delete"
    SECURITY_POLICY_READ = "security_policy.read"
    SECURITY_POLICY_UPDATE = "security_policy.update"
    SECURITY_SETTINGS_UPDATE = "security_settings.update"

    API_KEY_CREATE = "api_key.create"
    API_KEY_LIST = "api_key.list"
    API_KEY_READ = "api_key.read"
    API_KEY_REVOKE = "api_key.revoke"

    LOCATION_CREATE = "location.create"
    LOCATION_LIST = "location.list"
    LOCATION_READ = "location.read"
    LOCATION_UPDATE = "location.update"
    LOCATION_DELETE = "location.delete"
    LOCATION_VALIDATE = "location.validate"
    LOCATION_CHANGE_MANY = "location.change_many"
    LOCATION_MERGE = "location.merge"
    LOCATION_TWIN_LIST = "location_twin.list"

    LOCATION_REQUEST_DENIED = "location_request.denied"

    NETWORK_CREATE = "network.create"
    NETWORK_LIST = "network.list"
    NETWORK_READ = "network.read"
    NETWORK_UPDATE = "network.update"
    NETWORK_DELETE = "network.delete"

    CONFIRMED_LOCATION_CREATE = "confirmed_location.create"
    CONFIRMED_LOCATION_LIST = "confirmed_location.list"
    CONFIRMED_LOCATION_READ = "confirmed_location.read"
    CONFIRMED_LOCATION_UPDATE = "confirmed_location.update"
    CONFIRMED_LOCATION_DELETE = "confirmed_location.delete"

    RECIPIENT_CREATE = "notification_recipient.create"
    RECIPIENT_LIST = "notification_recipient.list"
    RECIPIENT_READ = "notification_recipient.read"
    RECIPIENT_DELETE = "notification_recipient.delete"
    CHAT_RECIPIENT_CREATE = "chat_recipient.create"
    CHAT_RECIPIENT_LIST = "chat_recipient.list"
    CHAT_RECIPIENT_READ = "chat_recipient.read"
    CHAT_RECIPIENT_UPDATE = "chat_recipient.update"
    CHAT_RECIPIENT_DELETE = "chat_recipient.delete"
    CHAT_RECIPIENT_TEST = "chat_recipient.test"
    ESCALATION_PLAN_READ = "escalation_plan.read"
    ESCALATION_PLAN_UPDATE = "escalation_plan.update"

    PHONE_CREATE = "phone.create"
    PHONE_LIST = "phone.list"
    PHONE_READ = "phone.read"
    PHONE_UPDATE = "phone.update"
    PHONE_DELETE = "phone.delete"
    PHONE_RESYNC = "phone.resync"
    PHONE_BULK_RESYNC = "phone.bulk_resync"
    PHONE_RESYNC_READ = "phone_resync.read"
    PHONE_CHANGE_MANY = "phone.change_many"
    PHONE_SIGHT = "phone.sight"
    PHONE_SIGHTING_READ = "phone_sighting.read"
    PHONE_FILES_READ = "phone_file.read"
    PHONE_EVENTS_READ = "phone_event.list"
    PHONE_FIRST_FETCH = "phone.first_fetch"
    PHONE_CHANGED_FETCH = "phone.changed_fetch"
    PHONE_MISMATCH = "phone.mismatch"
    PHONE_QUARANTINE = "phone.quarantine"
    PHONE_RELEASE = "phone.release"
    PHONE_LOCATION_MISSING = "phone.location_missing"
    PHONE_LOCATION_FOUND = "phone.location_found"
    PHONE_BOOTS_READ = "phone_boot.list"
    PHONE_PREVIEW = "phone_preview.read"
    PROVISIONING_DENIED = "provisioning.denied"

    SETTINGS_CREATE = "settings.create"
    SETTINGS_LIST = "settings.list"
    SETTINGS_READ = "settings.read"
    SETTINGS_UPDATE = "settings.update"
    SETTINGS_DELETE = "settings.delete"
    PHONE_SETTINGS_READ = "phone_settings.read"
    TEMPLATE_CREATE = "template.create"
    TEMPLATE_LIST = "template.list"
    TEMPLATE_READ = "template.read"
    TEMPLATE_UPDATE = "template.update"
    TEMPLATE_REVERT = "template.revert"
    TEMPLATE_DELETE = "template.delete"
    TEMPLATE_VERSIONS_READ = "template_version.list"
    TEMPLATE_SHIPPED_READ = "template_shipped.list"
    ROLLOUT_CREATE = "rollout.create"
    ROLLOUT_LIST = "rollout.list"
    ROLLOUT_READ = "rollout.read"
    ROLLOUT_PUBLISH = "rollout.publish"
    ROLLOUT_CANCEL = "rollout.cancel"
    ROLLOUT_ROLL_BACK = "rollout.roll_back"
    DRY_RUN_CREATE = "dry_run.create"
    DRY_RUN_READ = "dry_run.read"
    DRY_RUN_CANCEL = "dry_run.cancel"

    IMPORT_CREATE = "import.create"
    IMPORT_CHECK = "import.check"
    IMPORT_EXPORT = "import.export"

    LINE_CREATE = "line.create"
    LINE_LIST = "line.list"
    LINE_READ = "line.read"
    LINE_UPDATE = "line.update"
    LINE_DELETE = "line.delete"

    CONTACT_CREATE = "contact.create"
    CONTACT_LIST = "contact.list"
    CONTACT_READ = "contact.read"
    CONTACT_UPDATE = "contact.update"
    CONTACT_DELETE = "contact.delete"

    ASSET_CREATE = "asset.create"
    ASSET_LIST = "asset.list"
    ASSET_READ = "asset.read"
    ASSET_DELETE = "asset.delete"

    PROVISIONING_TOKEN_GENERATE = "provisioning_token.generate"
    PROVISIONING_TOKEN_ROTATE = "provisioning_token.rotate"
    PROVISIONING_TOKEN_REVEAL = "provisioning_token.reveal"
    PROVISIONING_TOKEN_CUT = "provisioning_token.cut"
    PROVISIONING_TOKEN_CANCEL = "provisioning_token.cancel"
    PROVISIONING_ROTATION_READ = "provisioning_rotation.read"
    PROVISIONING_POLICY_READ = "provisioning_policy.read"
    PROVISIONING_POLICY_UPDATE = "provisioning_policy.update"
    PHONE_FILE_KEY_REVEAL = "phone_file_key.reveal"
    PHONE_ADMIN_PASSWORD_REVEAL = "phone_admin_password.reveal"
    PHONE_ADMIN_PASSWORD_ROTATE = "phone_admin_password.rotate"

    PBX_CREATE = "pbx.create"
    PBX_LIST = "pbx.list"
    PBX_READ = "pbx.read"
    PBX_UPDATE = "pbx.update"
    PBX_DELETE = "pbx.delete"

    TRUNK_CREATE = "trunk.create"
    TRUNK_LIST = "trunk.list"
    TRUNK_READ = "trunk.read"
    TRUNK_UPDATE = "trunk.update"
    TRUNK_DELETE = "trunk.delete"

    TRUNK_GROUP_CREATE = "trunk_group.create"
    TRUNK_GROUP_LIST = "trunk_group.list"
    TRUNK_GROUP_READ = "trunk_group.read"
    TRUNK_GROUP_UPDATE = "trunk_group.update"
    TRUNK_GROUP_DELETE = "trunk_group.delete"

    NUMBER_CREATE = "number.create"
    NUMBER_LIST = "number.list"
    NUMBER_READ = "number.read"
    NUMBER_UPDATE = "number.update"
    NUMBER_DELETE = "number.delete"

    EMERGENCY_CALL_CREATE = "emergency_call.create"
    EMERGENCY_CALL_LIST = "emergency_call.list"
    EMERGENCY_CALL_READ = "emergency_call.read"
    EMERGENCY_CALL_REFUSE = "emergency_call.refuse"
    EMERGENCY_CALL_ACKNOWLEDGE = "emergency_call.acknowledge"
    EMERGENCY_CALL_ESCALATE = "emergency_call.escalate"
    EMERGENCY_CALL_EXPORT = "emergency_call.export"
    COMPLIANCE_REPORT_READ = "compliance_report.read"
    COMPLIANCE_REPORT_EXPORT = "compliance_report.export"
    EMERGENCY_CALL_FOLLOW = "emergency_call.follow"
    EMERGENCY_CALL_FOLLOW_END = "emergency_call.follow_end"
    ALARM_LIST = "alarm.list"
    ALARM_DISMISS = "alarm.dismiss"
    ALERT_DISPLAY_CREATE = "alert_display.create"
    DRILL_CREATE = "drill.create"
    SWEEP_CREATE = "sweep.create"
    SWEEP_LIST = "sweep.list"
    SWEEP_READ = "sweep.read"
    SWEEP_CANCEL = "sweep.cancel"
    SWEEP_END = "sweep.end"
    SWEEP_PLAN_READ = "sweep_plan.read"
    SWEEP_PLAN_UPDATE = "sweep_plan.update"
    LOCATION_TEST_LIST = "location_test.list"
    CALLBACK_CREATE = "callback.create"
    NOTIFICATION_LIST = "notification.list"
    NOTIFICATION_READ = "notification.read"
    NOTIFICATION_RESEND = "notification.resend"
    EMERGENCY_CALL_PRUNE = "emergency_call.prune"

    AUDIT_LOG_LIST = "audit_log.list"
    AUDIT_LOG_READ = "audit_log.read"
    AUDIT_LOG_EXPORT = "audit_log.export"
    AUDIT_LOG_EXPORT_END = "audit_log.export_end"
    AUDIT_LOG_GROUP = "audit_log.group"
    AUDIT_LOG_FOLLOW = "audit_log.follow"
    AUDIT_LOG_FOLLOW_END = "audit_log.follow_end"
    AUDIT_LOG_PRUNE = "audit_log.prune"
    CLOCK_SET_BACK = "clock.set_back"
    FETCH_LOG_LIST = "fetch_log.list"
    FETCH_LOG_PRUNE = "fetch_log.prune"
    AUDIT_VIEW_CREATE = "audit_view.create"
    AUDIT_VIEW_LIST = "audit_view.list"
    AUDIT_VIEW_READ = "audit_view.read"
    AUDIT_VIEW_UPDATE = "audit_view.update"
    AUDIT_VIEW_DELETE = "audit_view.delete"
    BACKUP_CREATE = "backup.create"
    BACKUP_RESTORE = "backup.restore"
    SEALING_KEY_CREATE = "sealing_key.create"
    SEALING_KEY_ROTATE = "sealing_key.rotate"
    SEALING_KEY_RESEAL = "sealing_key.reseal"
    ANOMALY_CREATE = "anomaly.create"
    ANOMALY_LIST = "anomaly.list"
    ANOMALY_READ = "anomaly.read"
    ANOMALY_DISMISS = "anomaly.dismiss"


@dataclass(frozen=True, slots=True)
class EventFacts:
    """What filters know of an event: its access, its category, and the action in plain words."""

    access: Access
    category: Category
    verb: str


_CATEGORIES = {
    "account": Category.SETTINGS,
    "home": Category.SETTINGS,
    "mail_settings": Category.SETTINGS,
    "branding": Category.SETTINGS,
    "storage_settings": Category.SETTINGS,
    "integration": Category.INTEGRATIONS,
    "validation_settings": Category.INTEGRATIONS,
    "webhook": Category.INTEGRATIONS,
    "alert": Category.PHONES,
    "help": Category.SETTINGS,
    "form": Category.SETTINGS,
    "openapi": Category.SETTINGS,
    "route": Category.SECURITY,
    "user": Category.USERS,
    "invitation": Category.USERS,
    "auth_log": Category.SECURITY,
    "session": Category.SECURITY,
    "profile": Category.USERS,
    "operator": Category.SECURITY,
    "sign_in": Category.SECURITY,
    "password": Category.SECURITY,
    "two_factor": Category.SECURITY,
    "recovery_code": Category.SECURITY,
    "remembered_device": Category.SECURITY,
    "security_policy": Category.SECURITY,
    "security_settings": Category.SETTINGS,
    "login_page": Category.SECURITY,
    "setup_page": Category.SECURITY,
    "api_key": Category.SECURITY,
    "location": Category.LOCATIONS,
    "location_request": Category.LOCATIONS,
    "location_twin": Category.LOCATIONS,
    "network": Category.LOCATIONS,
    "confirmed_location": Category.LOCATIONS,
    "notification_recipient": Category.EMERGENCY,
    "chat_recipient": Category.EMERGENCY,
    "escalation_plan": Category.EMERGENCY,
    "phone": Category.PHONES,
    "import": Category.PHONES,
    "phone_sighting": Category.PHONES,
    "phone_file": Category.PHONES,
    "phone_event": Category.PHONES,
    "fetch_log": Category.PROVISIONING,
    "phone_boot": Category.PHONES,
    "phone_preview": Category.PHONES,
    "settings": Category.PROVISIONING,
    "phone_settings": Category.PHONES,
    "template": Category.PROVISIONING,
    "template_version": Category.PROVISIONING,
    "template_shipped": Category.PROVISIONING,
    "rollout": Category.PROVISIONING,
    "dry_run": Category.PROVISIONING,
    "phone_resync": Category.PHONES,
    "provisioning": Category.PROVISIONING,
    "line": Category.TELEPHONY,
    "contact": Category.PHONES,
    "asset": Category.PROVISIONING,
    "provisioning_token": Category.PROVISIONING,
    "provisioning_policy": Category.PROVISIONING,
    "phone_file_key": Category.PROVISIONING,
    "provisioning_rotation": Category.PROVISIONING,
    "phone_admin_password": Category.PROVISIONING,
    "pbx": Category.TELEPHONY,
    "trunk": Category.TELEPHONY,
    "trunk_group": Category.TELEPHONY,
    "number": Category.TELEPHONY,
    "emergency_call": Category.EMERGENCY,
    "compliance_report": Category.EMERGENCY,
    "alarm": Category.EMERGENCY,
    "alert_display": Category.SECURITY,
    "drill": Category.EMERGENCY,
    "sweep": Category.EMERGENCY,
    "sweep_plan": Category.EMERGENCY,
    "location_test": Category.EMERGENCY,
    "callback": Category.EMERGENCY,
    "notification": Category.EMERGENCY,
    "audit_log": Category.AUDIT,
    "clock": Category.AUDIT,
    "audit_view": Category.AUDIT,
    "backup": Category.SECURITY,
    "sealing_key": Category.SECURITY,
    "anomaly": Category.SECURITY,
}
_CATEGORIES_OF_EVENTS = {
    Event.PHONE_CHANGE_MANY: Category.BULK,
    Event.PHONE_BULK_RESYNC: Category.BULK,
    Event.IMPORT_CREATE: Category.BULK,
    Event.LOCATION_CHANGE_MANY: Category.BULK,
    Event.LOCATION_MERGE: Category.BULK,
}
_READING_VERBS = frozenset(
    {
        "read",
        "list",
        "reveal",
        "export",
        "unknown",
        "denied",
        "mismatch",
        "first_fetch",
        "changed_fetch",
        "refuse",
        "check",
    }
    | {"location_missing", "location_found", "export_end", "group", "follow", "follow_end"}
)
_CREATING = frozenset({"create", "create_many", "generate"})
_DELETING = frozenset({"delete", "revoke", "prune"})


def _facts(event: Event) -> EventFacts:
    resource, verb = event.value.split(".")
    access = Access.READ if verb in _READING_VERBS else Access.WRITE
    plain = (
        "create"
        if verb in _CREATING
        else "delete"
        if verb in _DELETING
        else "update"
        if access is Access.WRITE
        else "read"
    )
    return EventFacts(access, _CATEGORIES_OF_EVENTS.get(event, _CATEGORIES[resource]), plain)


FACTS: dict[Event, EventFacts] = {event: _facts(event) for event in Event}
READS = frozenset(event for event, facts in FACTS.items() if facts.access is Access.READ)
WRITES = frozenset(event for event, facts in FACTS.items() if facts.access is Access.WRITE)
