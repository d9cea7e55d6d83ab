"""Dial-plan grammars, one module per family (pure). `engine.provisioning.dialplan` is their face; a profile names one
of them in `dial_plan = "…"`.

name              settings it reads (n: line, registration or rule)                            file it is read from
----------------  ---------------------------------------------------------------------------  ---------------------
yealink           dialplan.dialnow.rule.n, .replace.prefix.n, .replace.replace.n,              key = value
                  .block_out.number.n, .area_code.*, .digitmap.*, account.n.dialplan.digitmap.*,
                  phone_setting.dialnow_delay
poly              dialplan.digitmap, dialplan.n.digitmap, …impossibleMatchHandling             XML attributes
grandstream       P290 P459 P559 P659 P1759 P1859 P4200-P4209, account.n.call.dialplan (plan), <P290>…</P290> or
                  P66 P766 P866, account.n.call.dialplanPrefix, P85, …noKeyEntryTimeout        <item><part name="…">
htek              P4200-P4209, Accountn.DialPlan, Accountn_DialPlan                            <P4200 para="…">…
cisco_spa         Dial_Plan_n_, Interdigit_Short_Timer (also Linksys, Sipura), …_Code          XML elements
cisco_mpp         Dial_Plan_n_, Interdigit_Short_Timer, …_Code                                 XML elements
obihai            VoiceService.1.Phone.DigitMap, …X_HS.n.DigitMap, …VoiceProfile.n.DigitMap,   <N>name</N><V>value</V>
                  UserDigitMap.n.Label and .DigitMap, VoiceService.1.X_StarCode.n.Coden
cisco_enterprise  <TEMPLATE MATCH Timeout Rewrite/> of dialplan.xml; <dialTemplate> elsewhere  XML attributes
snom              user_dp_str.n (<user_dp_str idx="n">), overlap_dialing, auto_dial            XML elements
fanvil            dialplan.n.Number, .ApplyToCall, .MatchToSend, .Alias, .DelLen, .Suffix      XML elements
                  (<dialplan index="n">), DialbyTimeout, DialFixedLength, FixedLengthNums
aastra            sip dial plan, sip digit timeout                                             key: value
panasonic         DIAL_PLAN_n, DIAL_PLAN_NOT_MATCH_ENABLE_n                                    KEY="value"
digium            dial_plan                                                                    XML attributes
avaya             DIALPLAN, INTER_DIGIT_TIMEOUT                                                SET KEY value
vtech             sip_account.n.dial_plan                                                      key = value
audiocodes        voip/signalling/sip/digit_map, …/number_rules                                key=value
gigaset           none: the handset sends a number whole                                       -
linphone          …dial_prefix                                                                 <entry name="…">
acrobits          <rewriting><rule> conditions and actions                                     XML
zoiper            use_overlap_dialing, use_number_rewriting                                    XML elements
algo, none        none: the device dials nothing that somebody types                           -
"""
