"""The desired state: an SmtpProfile and its surroundings → manifests and topics. Pure. READ FIRST:
profile.
"""
