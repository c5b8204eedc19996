"""One photo → faces, five landmarks, the aligned 112×112 crop and its quality, or a refusal.

The doors are find.find_face and find.find_face_at; detect.FaceDetector loads the networks once per process.
"""
