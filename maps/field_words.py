"""The words of the field page in Chinese and English."""

from __future__ import annotations

from collections.abc import Mapping

import maps.text

_PAIRS: dict[str, tuple[str, str]] = {
    "title": ("现场上报", "Field report"),
    "language": ("English", "中文"),
    "line_idle": ("已连接", "Connected"),
    "line_sending": ("正在发送…", "Sending…"),
    "line_offline": (
        "无网络，先存手机，联网后自动发送",
        "No network: kept here, sent when it returns",
    ),
    "line_busy": ("服务器暂时繁忙，稍后自动重发", "The server is busy; sent again shortly"),
    "line_signed_out": ("登录已失效，记录已保存在手机", "Signed out; your reports are safe here"),
    "sign_in": ("重新登录并发送", "Sign in again and send"),
    "sign_out": ("退出", "Sign out"),
    "sign_out_sure": (
        "本机还有 {n} 份上报未发完。退出后仍存在本机，等 {name} 再次登录后自动发送，"
        "其他账号登录不会代发。现在退出？",
        "{n} reports here are not wholly sent yet. They stay on this phone and are sent once {name}"
        " signs in again, never in another account's name. Sign out now?",
    ),
    "sign_out_sure_one": (
        "本机还有 {n} 份上报未发完。退出后仍存在本机，等 {name} 再次登录后自动发送，"
        "其他账号登录不会代发。现在退出？",
        "{n} report here is not wholly sent yet. It stays on this phone and is sent once {name}"
        " signs in again, never in another account's name. Sign out now?",
    ),
    "sign_out_failed": (
        "连不上服务器，尚未退出。请联网后再试。",
        "The server cannot be reached, so you are still signed in. Try again with a network.",
    ),
    "noscript": ("本页需要启用 JavaScript。", "This page needs JavaScript."),
    "plan_special-equipment-2023": ("特种设备", "Equipment"),
    "plan_communications-2024": ("通信中断", "Telecoms"),
    "plan_power-outage-2021": ("停电", "Power cut"),
    "kind": ("是什么", "What"),
    "facts": ("情况（不清楚的留空）", "Facts (leave out what is not known)"),
    "yes": ("是", "Yes"),
    "no": ("否", "No"),
    "unknown": ("不详", "Not known"),
    "when": ("何时发生", "When"),
    "now": ("刚刚", "Just now"),
    "earlier": ("选择时间", "Earlier"),
    "where": ("在哪里", "Where"),
    "locate": ("用手机定位", "Use this phone's position"),
    "locating": ("正在定位…", "Finding your position…"),
    "locate_failed": ("定位失败，请在地图上点选", "No position; tap the map instead"),
    "tap": ("在地图上点选", "Tap on the map"),
    "other_ways": ("输入坐标、设施编号", "Type coordinates or a facility"),
    "position": ("坐标（照抄即可）", "Coordinates, just as you have them"),
    "position_example": ("106.5516,29.5630", "106.5516,29.5630"),
    "position_forms": (
        "经度在前；度分秒也可：29°33′46.8″N 106°33′05.8″E",
        "Longitude first; or 29°33′46.8″N 106°33′05.8″E",
    ),
    "position_unreadable": (
        "不像坐标：应为两个数（经度在前）或度分秒，请核对。仍可提交",
        "Not like coordinates: two numbers, longitude first, or degrees, minutes, seconds."
        " It can still be sent",
    ),
    "crs": ("坐标系", "Datum"),
    "crs_WGS84": ("WGS-84（手机 GPS、北斗）", "WGS-84 (phone GPS, Beidou)"),
    "crs_GCJ-02": ("GCJ-02（高德、腾讯、微信）", "GCJ-02 (AMap, Tencent, WeChat)"),
    "crs_BD-09": ("BD-09（百度）", "BD-09 (Baidu)"),
    "crs_CGCS2000": ("CGCS2000（天地图；带号坐标）", "CGCS2000 (Tianditu; metres with zone)"),
    "crs_EPSG:4544": ("CGCS2000 无带号，中央经线 105°", "CGCS2000 without zone, 105° E"),
    "crs_EPSG:4545": ("CGCS2000 无带号，中央经线 108°", "CGCS2000 without zone, 108° E"),
    "crs_EPSG:4546": ("CGCS2000 无带号，中央经线 111°", "CGCS2000 without zone, 111° E"),
    "rescue_code": ("电梯救援识别码（轿厢内六位数）", "Lift's rescue code (six digits in the car)"),
    "facility_id": ("设施编号（如知道）", "Facility number, if known"),
    "typed_place": ("坐标已填，送达后由服务器核对", "Coordinates typed; the server checks them"),
    "place_unread": ("位置还读不出，请核对坐标", "No position can be read yet; check the text"),
    "place_by_code": ("按识别码或编号落图", "Placed by the code or number"),
    "clear_place": ("清除", "Clear"),
    "no_place": ("尚无位置，可只填地址", "No position yet; an address will do"),
    "accuracy": ("误差约 {m} 米", "within about {m} m"),
    "outside": ("不在重庆市内，请核对", "Outside Chongqing; please check"),
    "map_missing": (
        "离线地图尚未下载，请用定位或填地址",
        "The map is not here yet; use another way",
    ),
    "address": ("地址或地点说明", "Address or landmark"),
    "description": ("补充说明", "Remarks"),
    "photos": ("照片", "Photos"),
    "take_photo": ("拍照", "Take a photo"),
    "choose_photo": ("从相册选", "Choose photos"),
    "remove": ("移除", "Remove"),
    "send": ("提 交", "Send"),
    "resend": ("改好，重新提交", "Send it again"),
    "cancel": ("放弃修改", "Cancel"),
    "kept": ("已存入手机", "Kept on this phone"),
    "not_kept": ("手机存储失败，未保存！", "This phone could not keep it!"),
    "choose_kind": ("请先选择“是什么”", "Choose what it is first"),
    "bad_rescue_code": ("救援识别码是六位数字", "A rescue code has six digits"),
    "no_where": (
        "请给出位置、识别码、设施编号或地址之一",
        "Give a position, a code, a facility number or an address",
    ),
    "update_ready": ("本页有新版本", "A new version of this page is here"),
    "update_now": ("立即更新", "Update"),
    "reports": ("我的上报", "My reports"),
    "none": ("还没有上报", "Nothing reported yet"),
    "state_waiting": ("待发送", "Waiting"),
    "state_sent": ("已送达", "Sent"),
    "state_refused": ("被退回", "Refused"),
    "mend": ("修改重发", "Mend and resend"),
    "returned": ("修改被退回的上报", "Mending a refused report"),
    "delete": ("删除", "Delete"),
    "delete_sure": ("删除这条未送达的上报？", "Delete this report, which was not sent?"),
    "other_account": (
        "由 {name} 填写，须以该账号登录后发送",
        "Filed by {name}: sign in as them to send",
    ),
    "receipt": ("回执", "Receipt"),
    "district": ("区县", "District"),
    "level": ("建议等级", "Proposed level"),
    "level_of": ("{level}级", "Level {level}"),
    "level_none": ("未达等级", "No level"),
    "level_by_district": ("按区县汇总研判，不单独定级", "Graded by district, not by itself"),
    "answered": ("送达时间", "Arrived"),
    "unplaced": ("未落图", "Not placed"),
    "duplicates": ("疑似重复 {n} 起", "{n} probable duplicates"),
    "duplicates_one": ("疑似重复 {n} 起", "{n} probable duplicate"),
    "photos_count": ("照片 {sent}/{n} 已送达", "{sent} of {n} photos sent"),
    "photo_refused": ("照片被退回：{why}", "Photo refused: {why}"),
    "outside_city": ("重庆市外", "Outside Chongqing"),
    "tap_again": ("已放大，请再点一次准确位置", "Closer now: tap the exact place"),
    "refused_403": ("该账号无权上报", "This account may not report"),
    "refused_409": (
        "同一编号在服务器上已有另一份内容，本机这份未生效；修改后重发，将作为新的一份",
        "Another report has this number; this one was not taken. Mend it: it is sent as a new one",
    ),
    "refused_413": ("内容过大", "Too large"),
    # an empty hint adds nothing to the server's own words
    "hint_position": ("请核对经度、纬度是否填反，坐标系是否选对", ""),
    "hint_occurred_at": ("请核对时间，不能晚于现在", ""),
    "hint_file": ("照片无法读取或过大，请另拍一张", ""),
    "field_file": ("照片", "Photo"),
    "field_occurred_at": ("发生时间", "When"),
    "field_position": ("位置", "Position"),
    "field_facts": ("情况", "Facts"),
    "field_facility_id": ("识别码或编号", "Code or number"),
    "field_address": ("地址", "Address"),
    "field_description": ("补充说明", "Remarks"),
    "field_kind": ("是什么", "What"),
    "field_stranded_since": ("滞留开始时间", "Stranded since"),
}
#: A level that is open is told in the words of the commander's map.
_OF_THE_MAP = ("open_wholly", "open_above")
WORDS: Mapping[str, Mapping[str, str]] = {
    lang: {key: pair[turn] for key, pair in _PAIRS.items()}
    | {key: maps.text.WORDS[lang][key] for key in _OF_THE_MAP}
    for turn, lang in enumerate(maps.text.LANGS)
}

KINDS: Mapping[str, tuple[str, str]] = {
    "elevator": ("电梯", "Lift"),
    "crane": ("起重机械", "Crane"),
    "boiler": ("锅炉", "Boiler"),
    "pressure_vessel": ("压力容器", "Pressure vessel"),
    "gas_cylinder": ("气瓶", "Gas cylinder"),
    "pressure_pipeline": ("压力管道", "Pressure pipeline"),
    "passenger_ropeway": ("客运索道", "Ropeway"),
    "large_amusement_ride": ("大型游乐设施", "Amusement ride"),
    "in_plant_vehicle": ("场内机动车辆", "In-plant vehicle"),
    "base_station": ("基站", "Base station"),
    "exchange": ("机房", "Exchange"),
    "optical_cable": ("光缆", "Optical cable"),
    "substation": ("变电站", "Substation"),
    "power_line": ("线路", "Power line"),
    "customers": ("居民、单位停电", "Homes or premises"),
    "other": ("其他", "Other"),
}
